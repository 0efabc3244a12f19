//! Key files and the JSON of a store; configuration, options, messages on the
//! control socket, the kernel's table of mounts.
#![no_main]
#![allow(dead_code, unused_imports)]

// The command is a program and not a library; these are its parts that read.
#[path = "../../cli/src"]
mod command {
    pub mod address;
    pub mod config;
    pub mod control;
    pub mod exports;
    pub mod failure;
    pub mod mount_options;
    pub mod mounts;
    pub mod places;
    pub mod profile;
    pub mod quantity;
    pub mod report;
    pub mod s3_keys;
}
use command::*;

use std::path::Path;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    if choice < 128 {
        return kiseki_core::fuzzing::keys(input);
    }
    if choice % 4 == 0 {
        return mount_table(bytes);
    }
    if choice % 4 == 1 {
        return messages(bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if choice % 4 == 2 {
        let _ = config::Config::parse(text, Path::new("kiseki.toml"));
        let _ = text.parse::<quantity::Size>();
        let _ = text.parse::<quantity::Span>();
    } else {
        let _ = mount_options::MountOptions::parse(&[text.to_owned()]);
        let _ = kiseki_fs::fuse::MountOptions::default().parse(text);
    }
});

fn mount_table(bytes: &[u8]) {
    let _ = mounts::parse(bytes);
    let _ = kiseki_fs::fuse::look_for_mount(bytes, Path::new("/mnt"));
}

fn messages(bytes: &[u8]) {
    let _ = control::understand(bytes);
    let _ = serde_json::from_slice::<control::Line>(bytes);
}
