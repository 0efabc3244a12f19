#![allow(clippy::unwrap_used)]
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
};

use tokio::sync::mpsc;

use super::*;
use crate::failure::Result;

struct Fake;

impl Handler for Fake {
    async fn answer(&self, request: Request, progress: mpsc::Sender<(u64, u64)>) -> Result<Line> {
        Ok(match request {
            Request::Ping => Line::Pong(Daemon {
                pid: 7,
                supervisor: None,
                layout: 0,
                volume: "v".into(),
                mountpoint: Some("/m".into()),
            }),
            Request::Gc => {
                progress.send((1, 2)).await.unwrap();
                progress.send((2, 2)).await.unwrap();
                Line::Collected(Collection {
                    chunks: 3,
                    freed_bytes: 4,
                    copied_bytes: 5,
                })
            }
            Request::Sync => return Err(Failure::new("no space").code(Code::Damage)),
            Request::Status
            | Request::Stats
            | Request::Upgrade(_)
            | Request::Profile(_)
            | Request::S3Key(_)
            | Request::Export(_) => Line::Synced,
        })
    }
}

fn with_daemon(test: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    // Deeper than a socket address is long.
    let store = dir.path().join("d".repeat(120));
    std::fs::create_dir(&store).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        std::fs::write(store.join(SOCKET), "stale").unwrap();
        serve(&store, Arc::new(Fake)).unwrap();
    });
    test(&store);
}

#[test]
fn a_request_gets_progress_and_an_answer() {
    with_daemon(|store| {
        let (connection, daemon) = Connection::to(store).unwrap().unwrap();
        assert_eq!(daemon.pid, 7);
        let mut steps = Vec::new();
        let collected = connection
            .gc(&mut |done, total| steps.push((done, total)))
            .unwrap();
        assert_eq!(collected.freed_bytes, 4);
        assert!(steps.len() <= 2 && steps.iter().all(|(_, total)| *total == 2));
    });
}

#[test]
fn a_failure_keeps_its_text_and_exit_code() {
    with_daemon(|store| {
        let (connection, _) = Connection::to(store).unwrap().unwrap();
        let failure = connection.sync().unwrap_err();
        assert_eq!(
            (failure.to_string().as_str(), failure.code),
            ("no space", Code::Damage)
        );
    });
}

#[test]
fn an_answer_to_another_question_is_an_error() {
    with_daemon(|store| {
        let (connection, _) = Connection::to(store).unwrap().unwrap();
        assert!(
            connection
                .status()
                .unwrap_err()
                .to_string()
                .contains("another version")
        );
    });
}

#[test]
fn nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Connection::to(dir.path()).unwrap().is_none());
    assert!(Connection::to(&dir.path().join("none")).unwrap().is_none());
    drop(std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap());
    assert!(Connection::to(dir.path()).unwrap().is_none());
}

#[test]
fn nonsense_is_refused_and_the_daemon_goes_on() {
    with_daemon(|store| {
        for nonsense in [
            "{\"verb\":\"shutdown\"}\n",
            "{}\n",
            "\n",
            "{\"verb\":\"gc\",\"x\":1}\n",
        ] {
            let (_dir, path) = short_path(store).unwrap();
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(nonsense.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(
                answer.contains("does not understand"),
                "{nonsense} -> {answer}"
            );
        }
        assert!(Connection::to(store).unwrap().is_some());
    });
}

#[test]
fn a_daemon_that_is_ending_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    let ending = std::thread::spawn(move || {
        drop(listener.accept().unwrap());
        // The listener goes with it: nobody takes the next connection.
    });
    assert!(Connection::to(dir.path()).unwrap().is_none());
    ending.join().unwrap();
}
