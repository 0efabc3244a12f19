//! The real binary, where it needs no mount: exit codes, and what goes to
//! which stream.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

fn kiseki(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kiseki"))
        .args(args)
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn run(args: &[&str]) -> (i32, String, String) {
    let home = tempfile::tempdir().unwrap();
    let output = kiseki(home.path(), args);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn wrong_usage_exits_2_and_says_so_on_stderr() {
    for args in [
        &["frobnicate"][..],
        &["mount"],
        &["mount", "--memory", "lots", "/mnt"],
        &["mount", "-o", "frobnicate", "/mnt"],
        &["mount", "--key-file", "a", "--passphrase-file", "b", "/mnt"],
        &["status", "--store", "/s", "/mnt"],
        &["generate"],
        &["daemon", "/s", "/m"],
    ] {
        let (code, out, err) = run(args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(out.is_empty() && !err.is_empty(), "{args:?}");
    }
}

#[test]
fn failures_exit_1_with_one_line() {
    for args in [
        &["umount", "/"][..],
        &["stats", "/"],
        &["info", "/"],
        &["status", "--store", "/nonexistent/store"],
        &["fsck", "--store", "/nonexistent/store"],
        &["gc", "--store", "/nonexistent/store"],
        &["volume", "list", "--store", "/nonexistent/store"],
        &["key", "list", "--store", "/nonexistent/store"],
        &["log", "verify", "--store", "/nonexistent/store"],
        &[
            "mount",
            "--store",
            "/nonexistent/store",
            "/nonexistent/mount",
        ],
    ] {
        let (code, out, err) = run(args);
        assert_eq!(code, 1, "{args:?}: {err}");
        assert!(out.is_empty(), "{args:?}");
        assert!(
            err.starts_with("kiseki: ") && err.lines().count() == 1,
            "{err}"
        );
    }
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn json_is_one_object_on_stdout() {
    let (code, out, err) = run(&["version", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(value["format_version"].is_u64());
}

#[test]
fn an_unknown_key_in_a_configuration_file_is_named_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("kiseki.toml");
    fs::write(&file, "volume = 'a'\nvolumes = 'b'\n").unwrap();
    let output = kiseki(home.path(), &["status", "--config", file.to_str().unwrap()]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.contains("kiseki.toml:2: unknown field `volumes`"),
        "{err}"
    );
}

#[test]
fn a_configuration_file_that_is_named_must_exist() {
    let (code, _, err) = run(&["status", "--config", "/nonexistent.toml"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn manual_pages_and_completions_are_written() {
    let home = tempfile::tempdir().unwrap();
    let (man, completions) = (home.path().join("man"), home.path().join("completions"));
    let output = kiseki(
        home.path(),
        &[
            "generate",
            "--man",
            man.to_str().unwrap(),
            "--completions",
            completions.to_str().unwrap(),
        ],
    );
    assert!(output.status.success());
    for page in ["kiseki.1", "kiseki-mount.1", "kiseki-key-rotate.1"] {
        assert!(man.join(page).exists(), "{page}");
    }
    assert!(!man.join("kiseki-daemon.1").exists());
    for file in ["kiseki.bash", "_kiseki", "kiseki.fish"] {
        assert!(completions.join(file).exists(), "{file}");
    }
}
