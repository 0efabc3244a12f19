#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener},
};

use super::*;
use crate::nfs::{
    rpc::{Call, Outcome, record},
    xdr,
};

type Key = (u32, u32, Vec<u8>);
type Table = Arc<Mutex<BTreeMap<Key, Vec<u8>>>>;

/// What rpcbind does with the three calls that are made here.
fn answer(call: Call, table: &Table) -> Outcome {
    let asked: Mapping = xdr::all(call.arguments).unwrap();
    let key = (asked.program, asked.version, asked.netid.0);
    let mut table = table.lock();
    match call.procedure {
        1 => {
            let has = table.entry(key).or_insert(asked.address.0.clone());
            Outcome::done(&(*has == asked.address.0))
        }
        2 => Outcome::done(&table.remove(&key).is_some()),
        3 => {
            let found = table.get(&key).cloned().unwrap_or_default();
            Outcome::done(&Text::from(found.as_slice()))
        }
        other => panic!("procedure {other}"),
    }
}

fn rpcbind(path: &Path) -> Table {
    let table = Table::default();
    let (listener, shared) = (UnixListener::bind(path).unwrap(), table.clone());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut input = record::Assembly::default();
            while stream.read_buf(input.input()).await.unwrap() > 0 {
                let Some(message) = input.take().unwrap() else {
                    continue;
                };
                let call = Call::decode(message).unwrap();
                let xid = call.xid;
                let reply = answer(call, &shared).reply(xid).unwrap().concat();
                stream.write_all(&record::mark(reply.len())).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        }
    });
    table
}

fn here(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

fn nfs3() -> Key {
    (v3::PROGRAM, v3::VERSION, b"tcp".to_vec())
}

#[tokio::test]
async fn programs_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpcbind.sock");
    let table = rpcbind(&path);
    let registration = register(&path, here(2049), here(2050)).await.unwrap();
    let registered: Vec<_> = table.lock().clone().into_iter().collect();
    assert_eq!(registered.len(), PROGRAMS.len() + 1);
    assert_eq!(table.lock()[&nfs3()], b"127.0.0.1.8.1");
    let udp = (nsm::PROGRAM, nsm::VERSION, b"udp".to_vec());
    assert_eq!(table.lock()[&udp], b"127.0.0.1.8.2");
    registration.remove().await;
    assert!(table.lock().is_empty());
}

#[tokio::test]
async fn another_server_keeps_its_programs_and_a_dead_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpcbind.sock");
    let table = rpcbind(&path);
    let other = TcpListener::bind(here(0)).await.unwrap();
    let at = other.local_addr().unwrap();
    let entry = universal(at).into_bytes();
    table.lock().insert(nfs3(), entry.clone());
    let answering = tokio::spawn(async move {
        let (mut stream, _) = other.accept().await.unwrap();
        let mut call = [0; 44];
        stream.read_exact(&mut call).await.unwrap();
        let reply = Outcome::done(&Void).reply(1).unwrap().concat();
        stream.write_all(&record::mark(reply.len())).await.unwrap();
        stream.write_all(&reply).await.unwrap();
    });
    let error = register(&path, here(2049), here(2050)).await.unwrap_err();
    assert!(
        matches!(error, RpcbindError::Taken { at: found, .. } if found == at),
        "{error}"
    );
    assert_eq!(table.lock().get(&nfs3()), Some(&entry));
    assert_eq!(table.lock().len(), 1, "nothing is left registered");
    answering.await.unwrap();
    // It is gone now, and its entry stayed.
    register(&path, here(2049), here(2050)).await.unwrap();
    assert_eq!(table.lock()[&nfs3()], b"127.0.0.1.8.1");
}

#[tokio::test]
async fn an_entry_of_an_earlier_life_at_another_address_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rpcbind.sock");
    let table = rpcbind(&path);
    // What listens does not answer: asking it would end as with a server that
    // hangs, and that keeps its programs.
    let own = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = own.local_addr().unwrap().port();
    let entry = universal(here(port)).into_bytes();
    table.lock().insert(nfs3(), entry);
    let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    register(&path, everywhere, here(2050)).await.unwrap();
    assert_eq!(table.lock()[&nfs3()], universal(everywhere).into_bytes());
}

#[tokio::test]
async fn without_rpcbind_the_error_says_what_to_do() {
    let path = Path::new("/nowhere/rpcbind.sock");
    let error = register(path, here(2049), here(2050)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/nowhere/rpcbind.sock") && text.contains("--rpcbind"),
        "{text}"
    );
}

#[test]
fn all_addresses_of_version_6_are_those_of_version_4_as_well() {
    let all = families("[::]:2049".parse().unwrap());
    assert_eq!(
        all,
        [
            "0.0.0.0:2049".parse().unwrap(),
            "[::]:2049".parse().unwrap()
        ]
    );
    assert_eq!(families(here(1)), [here(1)]);
}
