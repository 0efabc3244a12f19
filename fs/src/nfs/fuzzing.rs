//! What a fuzzer calls: bytes, as anybody can send them, for what reads
//! messages. The first byte of an input chooses what.
//!
//! The program is in `fuzz/`, the inputs it learned in `fuzz/corpus/wire`; the
//! tests run those again.

use bytes::Bytes;

use super::{
    export::Clients,
    nlm,
    rpc::{Call, client, record},
    rpcbind, v3, v4,
};

/// Hands bytes to what reads messages, and panics when a promise is broken.
pub fn wire(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let bytes = || Bytes::copy_from_slice(rest);
    match (choice, choice % 4) {
        (128..192, _) => nlm::decode(u32::from(choice), &bytes()),
        (192.., _) => answer(&bytes()),
        (_, 0) => stream(rest),
        (_, 1) => call(rest),
        (_, 2) => v3::decode(u32::from(choice / 4), bytes()),
        (_, _) => clients(rest),
    }
}

/// However a stream is cut, the same messages come out of it.
fn stream(bytes: &[u8]) {
    let at_once = messages(bytes, bytes.len().max(1));
    for step in [1, 3, 7] {
        assert_eq!(messages(bytes, step), at_once);
    }
}

fn messages(bytes: &[u8], step: usize) -> (Vec<Bytes>, bool) {
    let (mut assembly, mut found) = (record::Assembly::default(), Vec::new());
    for piece in bytes.chunks(step) {
        assembly.input().extend_from_slice(piece);
        loop {
            match assembly.take() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
        assert!(assembly.held() <= bytes.len());
    }
    (found, false)
}

fn call(bytes: &[u8]) {
    if let Ok(call) = Call::decode(Bytes::copy_from_slice(bytes)) {
        assert!(call.arguments.len() < bytes.len());
        if call.program == nlm::PROGRAM {
            nlm::decode(call.procedure, &call.arguments);
        } else if call.program == v3::PROGRAM {
            match call.version {
                v4::VERSION => v4::fuzzing::decode(&call.arguments),
                _ => v3::decode(call.procedure, call.arguments),
            }
        }
    }
}

/// What clients and rpcbind answer when they are called.
fn answer(bytes: &Bytes) {
    rpcbind::decode(bytes);
    let _ = client::decode::<nlm::xdr::Reply>(bytes.clone());
}

fn clients(bytes: &[u8]) {
    let Some(clients) = str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
    else {
        return;
    };
    let clients: Clients = clients;
    assert_eq!(clients.to_string().parse(), Ok(clients));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_corpus_of_messages_breaks_nothing() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/wire");
        let mut inputs = 0;
        for input in std::fs::read_dir(dir).unwrap() {
            let path = input.unwrap().path();
            println!("{}", path.display());
            super::wire(&std::fs::read(path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 10, "{inputs} inputs");
    }
}
