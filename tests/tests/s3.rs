//! S3 by real clients, with the same tree mounted.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kiseki_tests::{
    Content, Output, Result, daemon, env_number, have, mount, need_tools, served::Served,
    sources::count_files,
};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

const MIB: u64 = 1 << 20;

fn checked(words: &[&str]) -> Result {
    let Some(served) = Served::fresh(&[])? else {
        return Ok(());
    };
    served.check(words)?;
    served.finish()
}

#[test]
fn objects_are_files_at_once() -> Result {
    checked(&["files"])
}

#[test]
fn keys_that_are_no_paths_are_refused() -> Result {
    checked(&["paths"])
}

#[test]
fn listings_are_in_order_whatever_the_page() -> Result {
    checked(&["order"])
}

#[test]
fn directories_larger_than_memory_allows_are_listed_whole() -> Result {
    let Some(served) = Served::fresh(&["--memory", "64M"])? else {
        return Ok(());
    };
    // 64 MiB leave 4 for names, and each takes some 160 bytes.
    let count = env_number("KISEKI_S3_KEYS", 30_000);
    let bucket = served.mount().path("bucket");
    fs::create_dir(&bucket)?;
    for number in 0..count {
        let name = format!("{:08}{}", number * 7919 % count, "x".repeat(90));
        fs::write(bucket.join(name), "")?;
    }
    served.check(&["many", &count.to_string()])?;
    served.finish()
}

#[test]
fn of_many_conditional_writers_one_wins() -> Result {
    checked(&["conditions"])
}

#[test]
fn readers_see_one_object_or_the_other() -> Result {
    checked(&["readers"])
}

#[test]
fn change_through_the_mount_changes_the_etag() -> Result {
    checked(&["etags"])
}

#[test]
fn multipart_goes_on_after_a_restart_and_copies_nothing() -> Result {
    let Some(mut served) = Served::fresh(&[])? else {
        return Ok(());
    };
    let base = served.mount().base().to_owned();
    let (source, state) = (base.join("source"), base.join("state"));
    let len = 104 * MIB;
    Content(7).create(&source, len)?;
    let (source, state) = (source.to_str().unwrap(), state.to_str().unwrap());
    served.check(&["multipart_begin", source, state])?;
    served.stop()?;
    served.start()?;
    served.check(&["multipart_end", source, state])?;
    Content(7).verify(&served.mount().path("bucket/big/object"), len)?;
    served
        .mount()
        .kiseki(&["gc", served.mount().dir().to_str().unwrap()])?
        .ok()?;
    let stored = served.mount().status_number("stored_bytes")?;
    ensure!(
        stored < len + 4 * MIB,
        "{stored} bytes are stored for {len}"
    );
    served.finish()
}

#[test]
fn wrong_signatures_are_refused() -> Result {
    let Some(mut served) = Served::fresh(&[])? else {
        return Ok(());
    };
    served.check(&["signatures"])?;
    let id = served.key().0.to_owned();
    let list = served.mount().on_store(&["s3", "key", "list"])?.ok()?;
    ensure!(list.lines().any(|line| line == id), "{list}");
    served
        .mount()
        .on_store(&["s3", "key", "delete", &id])?
        .ok()?;
    served.check(&["denied"])?;
    // The same without a server.
    served.stop()?;
    let (other, _) = served.new_key()?;
    let list = served.mount().on_store(&["s3", "key", "list"])?.ok()?;
    ensure!(list.trim() == other, "{list}");
    ensure!(served.mount().on_store(&["s3", "key", "delete", &id])?.code == 1);
    served
        .mount()
        .on_store(&["s3", "key", "delete", &other])?
        .ok()?;
    // Nobody else gets in without a key.
    let refused = served.mount().on_store(&["serve", "--s3", "0.0.0.0:0"])?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("no key"),
        "{refused:?}"
    );
    served.finish()
}

#[test]
fn secrets_do_not_show_in_the_store() -> Result {
    let Some(mut served) = Served::fresh(&[])? else {
        return Ok(());
    };
    let (id, secret) = served.key();
    let (id, secret) = (id.to_owned(), secret.to_owned());
    served.stop()?;
    for entry in kiseki_tests::store::store_files(served.mount().store())? {
        let bytes = fs::read(&entry)?;
        for text in [&id, &secret] {
            let found = bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            ensure!(!found, "{} holds {text}", entry.display());
        }
    }
    served.finish()
}

#[test]
fn what_was_put_survives_a_kill() -> Result {
    let Some(mut served) = Served::fresh(&[])? else {
        return Ok(());
    };
    let ledger = served.mount().base().join("ledger");
    let ledger = ledger.to_str().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/s3.py");
    let mut client = served.client("python3");
    let mut client = client.args([script, "put_until_killed", ledger]).spawn()?;
    let began = Instant::now();
    while fs::read_to_string(ledger)
        .unwrap_or_default()
        .lines()
        .count()
        < 200
    {
        ensure!(began.elapsed() < Duration::from_secs(60), "puts are slow");
        thread::sleep(Duration::from_millis(20));
    }
    served.kill()?;
    client.wait()?;
    served.start()?;
    served.check(&["put_survived", ledger])?;
    served.finish()
}

/// Copies a tree in with one program, and compares it through the mount and,
/// copied out again, with itself.
fn synced(program: &str, copy: impl Fn(&Served, &str, &str) -> Result) -> Result {
    if !need_tools(&[program]) {
        return Ok(());
    }
    let Some(served) = Served::fresh(&[])? else {
        return Ok(());
    };
    let source = small_tree(&served)?;
    fs::create_dir(served.mount().path("bucket"))?;
    let out = served.mount().base().join("out");
    fs::create_dir(&out)?;
    copy(&served, source.to_str().unwrap(), "in")?;
    same_files(&source, &served.mount().path("bucket"))?;
    copy(&served, out.to_str().unwrap(), "out")?;
    same_files(&source, &out)?;
    served.finish()
}

fn small_tree(served: &Served) -> Result<std::path::PathBuf> {
    let dir = served.mount().base().join("tree");
    for number in 0..300_u64 {
        let path = dir.join(format!("d{}/e {}/f+{number}.txt", number % 7, number % 3));
        fs::create_dir_all(path.parent().unwrap())?;
        Content(number).create(&path, number * number)?;
    }
    Content(1000).create(&dir.join("large"), 20 * MIB)?;
    Ok(dir)
}

fn same_files(one: &Path, other: &Path) -> Result {
    ensure!(
        count_files(one)? == count_files(other)?,
        "not as many files"
    );
    let differ = Command::new("diff")
        .arg("-rq")
        .args([one, other])
        .output()?;
    Output::of(&differ).ok().context("the trees differ")?;
    Ok(())
}

fn done(mut command: Command) -> Result {
    Output::of(&command.output()?).ok()?;
    Ok(())
}

#[test]
fn tree_synced_by_awscli_is_the_same() -> Result {
    synced("aws", |served, dir, way| {
        let mut aws = served.client("aws");
        aws.args([
            "--endpoint-url",
            served.url(),
            "s3",
            "sync",
            "--only-show-errors",
        ]);
        match way {
            "in" => aws.args([dir, "s3://bucket"]),
            _ => aws.args(["s3://bucket", dir]),
        };
        done(aws)
    })
}

#[test]
fn tree_synced_by_rclone_is_the_same() -> Result {
    synced("rclone", |served, dir, way| {
        let mut rclone = served.client("rclone");
        rclone
            .env("RCLONE_CONFIG_K_TYPE", "s3")
            .env("RCLONE_CONFIG_K_PROVIDER", "Other")
            .env("RCLONE_CONFIG_K_ENV_AUTH", "true")
            .env("RCLONE_CONFIG_K_ENDPOINT", served.url())
            .args(["sync", "--checksum"]);
        match way {
            "in" => rclone.args([dir, "K:bucket"]),
            _ => rclone.args(["K:bucket", dir]),
        };
        done(rclone)
    })
}

#[test]
fn tree_synced_by_s3cmd_is_the_same() -> Result {
    synced("s3cmd", |served, dir, way| {
        let host = served.url().trim_start_matches("http://");
        let (id, secret) = served.key();
        let mut s3cmd = served.client("s3cmd");
        s3cmd.args(["--no-ssl", "--quiet", "--config=/dev/null"]);
        s3cmd.args([format!("--host={host}"), format!("--host-bucket={host}")]);
        s3cmd.args([
            format!("--access_key={id}"),
            format!("--secret_key={secret}"),
        ]);
        let dir = format!("{dir}/");
        match way {
            "in" => s3cmd.args(["sync", &dir, "s3://bucket/"]),
            _ => s3cmd.args(["sync", "s3://bucket/", &dir]),
        };
        done(s3cmd)
    })
}

/// A bucket mounted by s3fs; unmounted when dropped.
struct S3fs {
    at: PathBuf,
    child: Child,
}

impl S3fs {
    fn mount(served: &Served, bucket: &str) -> Result<S3fs> {
        let base = served.mount().base();
        let (at, key) = (base.join("s3fs"), base.join("s3fs-key"));
        fs::create_dir(&at)?;
        fs::write(&key, format!("{}:{}", served.key().0, served.key().1))?;
        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        let options = format!(
            "passwd_file={},url={},use_path_request_style",
            key.display(),
            served.url()
        );
        let mut command = served.client("s3fs");
        command.arg(bucket).arg(&at).args(["-f", "-o", &options]);
        let mut s3fs = S3fs {
            child: command.stdout(Stdio::null()).spawn()?,
            at,
        };
        let began = Instant::now();
        while fs::metadata(&s3fs.at)?.dev() == fs::metadata(base)?.dev() {
            let ended = s3fs.child.try_wait()?;
            ensure!(ended.is_none(), "s3fs ended: {ended:?}");
            ensure!(began.elapsed() < Duration::from_secs(60), "no mount");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(s3fs)
    }
}

impl Drop for S3fs {
    fn drop(&mut self) {
        mount::clear(&self.at);
        // Where that was not enough; its time limit hands the signal on.
        let _ = signal::kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _ = self.child.wait();
    }
}

#[test]
fn tree_copied_to_s3fs_is_the_same() -> Result {
    if !need_tools(&["s3fs"]) {
        return Ok(());
    }
    let Some(served) = Served::fresh(&[])? else {
        return Ok(());
    };
    let bucket = served.mount().path("bucket");
    fs::create_dir(&bucket)?;
    let source = small_tree(&served)?;
    let s3fs = S3fs::mount(&served, "bucket")?;
    let mut copy = served.client("cp");
    copy.arg("-r").arg(&source).arg(s3fs.at.join("copy"));
    done(copy)?;
    same_files(&source, &bucket.join("copy"))?;
    fs::write(bucket.join("copy/new"), "by the mount")?;
    ensure!(fs::read(s3fs.at.join("copy/new"))? == b"by the mount");
    fs::rename(s3fs.at.join("copy/new"), s3fs.at.join("moved"))?;
    ensure!(fs::read(bucket.join("moved"))? == b"by the mount");
    ensure!(!bucket.join("copy/new").exists(), "it is there twice");
    fs::remove_dir_all(s3fs.at.join("copy"))?;
    ensure!(!bucket.join("copy").exists(), "not removed");
    drop(s3fs);
    served.finish()
}

#[test]
fn tls_is_spoken() -> Result {
    if !need_tools(&["openssl"]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]);
    openssl.args([
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        key,
        "-out",
        cert,
    ]);
    done(openssl)?;
    let Some(served) = Served::fresh(&["--tls-cert", cert, "--tls-key", key])? else {
        return Ok(());
    };
    ensure!(served.url().starts_with("https://"), "{}", served.url());
    fs::create_dir(served.mount().path("bucket"))?;
    let mut client = served.client("python3");
    client.env("CA", cert);
    client.args([
        concat!(env!("CARGO_MANIFEST_DIR"), "/clients/s3.py"),
        "empty",
        "bucket",
    ]);
    done(client)?;
    ensure!(
        served.check(&["empty", "bucket"]).is_err(),
        "an unknown certificate was taken"
    );
    served.finish()
}

#[test]
fn large_object_stays_within_the_memory_budget() -> Result {
    let Some(served) = Served::fresh(&["--memory", "256M"])? else {
        return Ok(());
    };
    if !have("aws") {
        kiseki_tests::skip("not installed: aws");
        return Ok(());
    }
    let len = env_number("KISEKI_S3_GIB", 1) << 30;
    let source =
        tempfile::NamedTempFile::new_in(kiseki_tests::mount::scratch_dir("large")?.keep())?;
    Content(3).create(source.path(), len)?;
    fs::create_dir(served.mount().path("bucket"))?;
    let file = source.path().to_str().unwrap();
    for (from, to) in [(file, "s3://bucket/large"), ("s3://bucket/large", file)] {
        let mut aws = served.client("aws");
        aws.args([
            "--endpoint-url",
            served.url(),
            "s3",
            "cp",
            "--only-show-errors",
            from,
            to,
        ]);
        done(aws)?;
    }
    Content(3).verify(source.path(), len)?;
    Content(3).verify(&served.mount().path("bucket/large"), len)?;
    let (_, most) = daemon::resident(served.mount().store())?;
    println!("at most {} MiB resident", most / MIB);
    ensure!(most < 512 * MIB, "{} MiB resident", most / MIB);
    let dir = source.path().parent().map(Path::to_owned);
    drop(source);
    if let Some(dir) = dir {
        fs::remove_dir_all(dir)?;
    }
    served.finish()
}
