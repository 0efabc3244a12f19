//! Random nonces without a system call for each.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::host::Entropy;

/// Bytes of a nonce.
pub const NONCE: usize = 12;

const SHARDS: usize = 16;
const NONCES_PER_FILL: usize = 64;

/// Hands out random nonces from buffers that are refilled now and then. A
/// thread keeps to one buffer, so that threads rarely meet at a lock.
pub struct NoncePool {
    entropy: Arc<dyn Entropy>,
    shards: [Shard; SHARDS],
}

// On a cache line of its own: neighbours belong to other threads.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Buffer>);

#[derive(Zeroize, ZeroizeOnDrop)]
struct Buffer {
    bytes: Box<[u8; NONCE * NONCES_PER_FILL]>,
    left: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer {
            bytes: Box::new([0; NONCE * NONCES_PER_FILL]),
            left: 0,
        }
    }
}

impl NoncePool {
    /// A pool over a random source.
    pub fn new(entropy: Arc<dyn Entropy>) -> NoncePool {
        NoncePool {
            entropy,
            shards: Default::default(),
        }
    }

    /// A nonce that was never handed out before.
    pub fn next(&self) -> [u8; NONCE] {
        let mut buffer = self.shards[shard_of_thread()].0.lock();
        if buffer.left == 0 {
            self.entropy.fill(buffer.bytes.as_mut_slice());
            buffer.left = NONCES_PER_FILL;
        }
        buffer.left -= 1;
        let start = buffer.left * NONCE;
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&buffer.bytes[start..start + NONCE]);
        nonce
    }
}

fn shard_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SHARD: Cell<usize> = const { Cell::new(usize::MAX) });
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{collections::HashSet, thread};

    use super::*;
    use crate::host::SystemEntropy;

    #[test]
    fn no_nonce_comes_twice() {
        let pool = NoncePool::new(Arc::new(SystemEntropy));
        let mut seen = HashSet::new();
        thread::scope(|scope| {
            let takers: Vec<_> = (0..SHARDS + 4)
                .map(|_| scope.spawn(|| (0..1000).map(|_| pool.next()).collect::<Vec<_>>()))
                .collect();
            for taker in takers {
                for nonce in taker.join().unwrap() {
                    assert!(seen.insert(nonce));
                }
            }
        });
    }
}
