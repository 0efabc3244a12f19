//! Decrypted frames in memory.
//!
//! Weighed by bytes, with a time to live, zeroized when they leave. What is
//! here is plaintext: [`FrameCache::wipe`] empties it when keys are withdrawn.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use zeroize::Zeroizing;

use crate::{crypto, ids::ChunkId};

const FRAME: u32 = crypto::FRAME as u32;

/// How long a frame stays at most after its last use.
const TIME_TO_IDLE: Duration = Duration::from_secs(120);

type Frame = Arc<Zeroizing<Vec<u8>>>;

/// Opened frames by chunk and frame number.
pub(super) struct FrameCache {
    frames: Cache<(ChunkId, u32), Frame>,
}

impl FrameCache {
    /// A cache of at most `bytes`.
    pub fn new(bytes: u64) -> FrameCache {
        FrameCache {
            frames: Cache::builder()
                .max_capacity(bytes)
                .weigher(|_, frame: &Frame| frame.len() as u32 + 128)
                .time_to_idle(TIME_TO_IDLE)
                .build(),
        }
    }

    /// Copies from cached frames, if all that are needed are here.
    pub fn read(&self, id: &ChunkId, from: u32, out: &mut [u8]) -> bool {
        let mut at = from;
        let mut done = 0;
        while done < out.len() {
            let Some(frame) = self.frames.get(&(*id, at / FRAME)) else {
                return false;
            };
            let skip = (at % FRAME) as usize;
            let Some(rest) = frame.get(skip..).filter(|rest| !rest.is_empty()) else {
                return false;
            };
            let n = rest.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&rest[..n]);
            done += n;
            at += n as u32;
        }
        true
    }

    /// Keeps opened frames that begin at `first`.
    pub fn keep(&self, id: &ChunkId, first: u32, mut plain: Zeroizing<Vec<u8>>) {
        if plain.len() <= FRAME as usize {
            let whole = Zeroizing::new(std::mem::take(&mut *plain));
            self.frames.insert((*id, first), Arc::new(whole));
            return;
        }
        for (index, frame) in plain.chunks(FRAME as usize).enumerate() {
            let frame = Arc::new(Zeroizing::new(frame.to_vec()));
            self.frames.insert((*id, first + index as u32), frame);
        }
    }

    /// Bytes held, as of a moment ago.
    pub fn bytes(&self) -> u64 {
        self.frames.weighted_size()
    }

    /// Forgets, and zeroizes, everything.
    pub fn wipe(&self) {
        self.frames.invalidate_all();
        self.frames.run_pending_tasks();
    }
}
