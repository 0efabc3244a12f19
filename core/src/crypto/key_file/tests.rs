#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::PermissionsExt};

use proptest::prelude::*;

use super::*;
use crate::host::SystemEntropy;

const KNOWN: &str =
    "kiseki-key-1:4242424242424242424242424242424242424242424242424242424242424242:";

fn error_of(text: &[u8]) -> String {
    match parse(text) {
        Ok(_) => panic!("accepted {:?}", String::from_utf8_lossy(text)),
        Err(error) => error,
    }
}

#[test]
fn a_key_file_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/default.key");
    let key = Secret::random(&SystemEntropy);
    create(&path, &key).unwrap();
    assert_eq!(read(&path).unwrap().expose(), key.expose());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&dir.path().join("deep/er")), 0o700);
}

#[test]
fn a_key_closes_no_directory_but_its_own() {
    let dir = tempfile::tempdir().unwrap();
    create(
        &dir.path().join("settings/keys/a.key"),
        &Secret::random(&SystemEntropy),
    )
    .unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions();
    assert_eq!(mode("settings"), mode("other"));
    assert_ne!(mode("settings/keys"), mode("other"));
}

#[test]
fn a_key_file_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("default.key");
    let key = Secret::random(&SystemEntropy);
    create(&path, &key).unwrap();
    assert!(create(&path, &Secret::random(&SystemEntropy)).is_err());
    assert_eq!(read(&path).unwrap().expose(), key.expose());
}

#[test]
fn a_key_file_open_to_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("default.key");
    create(&path, &Secret::random(&SystemEntropy)).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = read(&path).unwrap_err();
        assert!(matches!(error, Error::NoKey(_)));
        let text = error.to_string();
        assert!(text.contains("chmod 600") && text.contains("default.key"));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    read(&path).unwrap();
}

#[test]
fn a_missing_key_file_and_a_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = read(&dir.path().join("none")).unwrap_err().to_string();
    assert!(missing.contains("none") && missing.contains("--key-file"));
    assert!(matches!(read(dir.path()), Err(Error::NoKey(_))));
}

#[test]
fn each_way_to_be_wrong_has_its_text() {
    let good = render(&Secret::from_bytes(&[0x42; 32]));
    assert!(good.starts_with(KNOWN));
    assert!(parse(good.as_bytes()).is_ok());
    assert!(parse(good.trim_end().as_bytes()).is_ok());

    assert!(error_of(b"").contains("empty"));
    assert!(error_of(b" \n").contains("empty"));
    assert!(error_of(b"-----BEGIN OPENSSH PRIVATE KEY-----").contains("not a kiseki key file"));
    assert!(error_of(&[0xff; 40]).contains("not a kiseki key file"));
    assert!(error_of(b"kiseki-key-2:00:00").contains("newer kiseki"));
    assert!(error_of(b"kiseki-key-x:00:00").contains("not a kiseki key file"));
    for cut in ["kiseki-key-1".len(), 30, KNOWN.len(), good.len() - 2] {
        assert!(error_of(&good.as_bytes()[..cut]).contains("cut"), "{cut}");
    }
    let mistyped = good.replacen("42", "43", 1);
    assert!(error_of(mistyped.as_bytes()).contains("check digits"));
    let spaced = good.replacen("42", "4 2", 1);
    assert!(error_of(spaced.as_bytes()).contains("cut or mistyped"));
}

#[test]
fn the_format_stays() {
    let key = Secret::from_bytes(&[0x42; 32]);
    assert_eq!(**render(&key), format!("{KNOWN}0bc4e562\n"));
}

proptest! {
    #[test]
    fn any_text_is_refused_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&text).is_err());
    }
}
