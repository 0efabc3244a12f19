//! S3 connections of clients that are no clients: silent, endless, or broken.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kiseki_tests::{Content, Result, daemon, env_number, need_open_files, served::Served};

const MIB: u64 = 1 << 20;

#[test]
fn connections_without_a_request_stop_nobody() -> Result {
    let Some(served) = Served::fresh(&[])? else {
        return Ok(());
    };
    let count = env_number("KISEKI_IDLE_CONNECTIONS", 10_000);
    if !need_open_files(count + 200)? {
        return served.finish();
    }
    fs::create_dir(served.mount().path("bucket"))?;
    served.check(&["put_and_get", "1000"])?;
    let server = served.url().trim_start_matches("http://");
    let before = daemon::resident(served.mount().store())?.0;
    let began = Instant::now();
    let mut open = Vec::new();
    for number in 0..count {
        let connect = || TcpStream::connect(server).context(format!("connection {number}"));
        let mut stream = connect()?;
        if number % 2 == 0 {
            stream.write_all(b"PUT /bucket/half HTTP/1.1\r\nHost: he")?;
        }
        open.push(stream);
        if number % 40 == 0 {
            // These are refused and closed: noise, and a signature that is none
            // with a body that does not come.
            connect()?.write_all(&Content(number).bytes(0, 100))?;
            connect()?.write_all(
                b"PUT /bucket/half HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\
                  Authorization: AWS4-HMAC-SHA256 Credential=none\r\n\r\nbegin",
            )?;
        }
    }
    let descriptors = format!("/proc/{}/fd", served.pid().context("it runs")?);
    let held = || Ok::<_, anyhow::Error>(fs::read_dir(&descriptors)?.count() as u64);
    let connected = began.elapsed();
    while held()? < count && began.elapsed() < Duration::from_secs(50) {
        thread::sleep(Duration::from_millis(50));
    }
    // After a minute without a request they are closed, so that a slow machine
    // never has all of them.
    ensure!(
        held()? >= count || connected > Duration::from_secs(25),
        "{} are open",
        held()?
    );
    served.check(&["put_and_get", "100000"])?;
    let grown = daemon::grown(served.mount().store(), before)?;
    ensure!(
        grown < count * 32 * 1024,
        "{count} connections take {grown} bytes"
    );
    ensure!(!served.mount().path("bucket/half").exists(), "unsigned");
    drop(open);
    served.finish()
}

#[test]
fn a_head_without_end_is_refused() -> Result {
    let Some(served) = Served::fresh(&[])? else {
        return Ok(());
    };
    let server = served.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(server)?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    let before = daemon::resident(served.mount().store())?.0;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n")?;
    let line = format!("X-Long: {}\r\n", "x".repeat(8000));
    // 64 MiB, if it were taken.
    let refused = (0..8192).find_map(|_| stream.write_all(line.as_bytes()).err());
    let refused = refused.context("it takes all of it")?.kind();
    ensure!(
        matches!(refused, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
        "{refused}"
    );
    let grown = daemon::grown(served.mount().store(), before)?;
    ensure!(grown < 32 * MIB, "it took {} MiB", grown / MIB);
    served.finish()
}

/// A request of each kind, with something wrong in it. Heads are signed and
/// bodies are not, so that what is wrong there reaches the parsers behind.
#[test]
fn requests_with_wrong_bytes_stop_nobody() -> Result {
    let Some(served) = Served::fresh(&[])? else {
        return Ok(());
    };
    let requests = served.check(&["requests"])?;
    let requests = requests.lines().map(bytes).collect::<Result<Vec<_>>>()?;
    ensure!(requests.len() > 10, "{} requests", requests.len());
    let server = served.url().trim_start_matches("http://");
    for request in &requests {
        let answer = exchange(server, request, Duration::from_secs(20))?;
        let told = String::from_utf8_lossy(&answer);
        ensure!(
            told.starts_with("HTTP/1.1 2"),
            "{} was answered with {told}",
            String::from_utf8_lossy(request)
        );
    }
    // The first ones have it make the buffers and threads that it keeps.
    send_broken(server, &requests, 0..500)?;
    let before = daemon::resident(served.mount().store())?.0;
    let count = env_number("KISEKI_S3_WRONG_REQUESTS", 2_000);
    send_broken(server, &requests, 500..500 + count)?;
    served.check(&["put_and_get", "100000"])?;
    let grown = daemon::grown(served.mount().store(), before)?;
    ensure!(grown < 32 * MIB, "they took {} MiB", grown / MIB);
    served.finish()
}

const CLIENTS: usize = 8;

fn send_broken(server: &str, requests: &[Vec<u8>], numbers: Range<u64>) -> Result {
    let send = &|first: u64| {
        for number in (first..numbers.end).step_by(CLIENTS) {
            let request = &requests[number as usize % requests.len()];
            // One that is cut off has no answer before the client is gone.
            exchange(server, &broken(request, number), Duration::from_millis(50))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (numbers.start..)
            .take(CLIENTS)
            .map(|first| scope.spawn(move || send(first)))
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().unwrap())
    })
}

/// What a line of hexadecimal digits stands for.
fn bytes(line: &str) -> Result<Vec<u8>> {
    let byte = |at| {
        Ok(u8::from_str_radix(
            line.get(at..at + 2).context("digits")?,
            16,
        )?)
    };
    (0..line.len()).step_by(2).map(byte).collect()
}

/// What the server says until it closes, or for as long as `patience` lasts.
fn exchange(server: &str, request: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(patience))?;
    // The server may close before all is sent, and after an answer.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

/// The request with one to four changes: another byte, a piece left out or
/// twice, an early end. Of two that follow each other one keeps its head.
fn broken(request: &[u8], number: u64) -> Vec<u8> {
    let mut broken = request.to_vec();
    let mut dice = Content(number).bytes(0, 64).into_iter();
    let mut roll = |end: usize| {
        let [high, low] = [dice.next().unwrap(), dice.next().unwrap()];
        usize::from(u16::from_be_bytes([high, low])) % end.max(1)
    };
    let head = request.windows(4).position(|part| part == b"\r\n\r\n");
    let body = head.map_or(0, |head| head + 4);
    let from = if (number / 2).is_multiple_of(2) && body < request.len() {
        body
    } else {
        0
    };
    for _ in 0..=roll(4) {
        let at = from + roll(broken.len() - from);
        let end = (at + 1 + roll(32)).min(broken.len());
        let piece = broken.get(at..end).unwrap_or_default().to_vec();
        let (end, new) = match roll(8) {
            0..4 => (broken.len().min(at + 1), vec![roll(256) as u8]),
            4 => (end, vec![]),
            5 => (at, piece),
            6 => (at, vec![b"\r\n\0%/<&"[roll(7)]]),
            _ => (broken.len(), vec![]),
        };
        broken.splice(at..end, new);
    }
    broken
}
