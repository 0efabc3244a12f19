//! Files of the log, and its checkpoint.

use std::sync::Arc;

use ed25519_dalek::SigningKey;

use super::split::{Pieces, choice};
use crate::{
    host::{Disk, MemoryDisk, OpenMode},
    ids::{Revision, VolumeId},
    log::{
        Log, LogOptions, SyncPolicy,
        format::{self, BATCH_HEADER, BatchHeader, FileHeader},
        verify,
    },
};

const VOLUME: VolumeId = VolumeId([7; 16]);
const DIR: &str = "log";

/// A log file as it is (0), with sound headers (1), behind a sound batch (2),
/// a checkpoint as it is (3), with a right checksum (4), rightly signed (5).
pub fn log(input: &[u8]) {
    let (choice, bytes) = choice(input);
    let disk = Arc::new(MemoryDisk::new());
    disk.create_dir(DIR).expect("a directory in memory");
    let mut file = Vec::new();
    match choice % 6 {
        0 => file = bytes.to_vec(),
        1 => file = batches(bytes),
        2 => {
            file = batches(b"\x03\0\x01ab");
            file.extend_from_slice(bytes);
        }
        3 => put(&disk, "checkpoint", bytes),
        4 => put(&disk, "checkpoint", &checkpoint(bytes, None)),
        _ => put(&disk, "checkpoint", &checkpoint(bytes, Some(&signer()))),
    }
    if choice % 6 > 2 {
        file = batches(b"\x03\0\x01ab\x02\0\0c");
    }
    put(&disk, &format::file_name(1), &file);
    examine(disk);
}

/// What verification calls sound must open, and give the same records.
fn examine(disk: Arc<MemoryDisk>) {
    let key = signer().verifying_key();
    let report = verify(&*disk, DIR, VOLUME, Some(&key), &mut |_, _| {})
        .expect("a disk in memory can be read");
    let options = LogOptions {
        policy: SyncPolicy::Os,
        key: Some(key),
        ..LogOptions::default()
    };
    let mut records = 0;
    let opened = Log::open(
        disk.clone(),
        DIR,
        VOLUME,
        options,
        Revision(0),
        &mut |revision, _| {
            records += 1;
            assert_eq!(revision.0, records, "records come in order");
            Ok(())
        },
    );
    assert!(records <= report.records, "a record that is not sound");
    match opened {
        Ok(log) => {
            assert!(report.problems.is_empty(), "opened over {report:?}");
            assert_eq!(records, report.records);
            log.append(b"new").expect("an open log takes records");
            log.close().expect("a disk in memory takes all");
            let after = verify(&*disk, DIR, VOLUME, Some(&key), &mut |_, _| {})
                .expect("a disk in memory can be read");
            assert!(after.problems.is_empty(), "opening left {after:?}");
            assert_eq!(after.records, records + 1);
        }
        Err(error) => assert!(
            !report.problems.is_empty(),
            "{error} where verification found nothing: {report:?}"
        ),
    }
}

/// A file of batches whose headers are sound. Each piece is one: how many
/// records it claims, and the payload.
fn batches(bytes: &[u8]) -> Vec<u8> {
    let mut chain = format::genesis(VOLUME);
    let header = FileHeader {
        volume: VOLUME,
        first: 1,
        chain,
    };
    let mut file = header.encode().to_vec();
    let mut first = 1_u64;
    for piece in Pieces(bytes) {
        let (count, payload) = choice(piece);
        let mut batch = vec![0; BATCH_HEADER];
        // Short pieces are whole records, so that there are sound batches.
        if count == 0 {
            format::push_record(&mut batch, payload);
        } else {
            batch.extend_from_slice(payload);
        }
        let count = u32::from(count.max(1));
        chain = BatchHeader::seal(&mut batch, count, first, &chain);
        first += u64::from(count);
        file.extend_from_slice(&batch);
    }
    file
}

/// A checkpoint of 144 bytes that begins with these, with what follows them made right.
fn checkpoint(bytes: &[u8], signer: Option<&SigningKey>) -> Vec<u8> {
    use ed25519_dalek::Signer;
    let mut whole = [0; 144];
    whole[..8].copy_from_slice(b"KISEKCKP");
    whole[8] = 1;
    whole[16..32].copy_from_slice(&VOLUME.0);
    let len = bytes.len().min(104);
    whole[32..32 + len].copy_from_slice(&bytes[..len]);
    if let Some(signer) = signer {
        let signature = signer.sign(&whole[..72]).to_bytes();
        whole[72..136].copy_from_slice(&signature);
    }
    let sum = format::checksum(&whole[..136]);
    whole[136..].copy_from_slice(&sum);
    whole.to_vec()
}

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn put(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    let file = disk
        .open(&format!("{DIR}/{name}"), OpenMode::Create)
        .expect("a file in memory");
    file.write_at(bytes, 0).expect("a file in memory");
}
