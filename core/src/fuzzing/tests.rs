//! The inputs that fuzzing found worth keeping, run again.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

fn replay(family: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut inputs = 0;
    for input in fs::read_dir(dir.join(family)).unwrap() {
        let path = input.unwrap().path();
        println!("{}", path.display());
        run(&fs::read(path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 10, "{inputs} inputs for {family}");
}

#[test]
fn the_corpus_of_the_log_breaks_nothing() {
    replay("log", super::log);
}

#[test]
fn the_corpus_of_chunks_breaks_nothing() {
    replay("chunks", super::chunks);
}

#[test]
fn the_corpus_of_the_metadata_breaks_nothing() {
    replay("meta", super::meta);
}

#[test]
fn the_corpus_of_keys_breaks_nothing() {
    // The others are for readers of text in other packages.
    replay("text", |input| {
        if input.first().is_some_and(|choice| *choice < 128) {
            super::keys(input);
        }
    });
}
