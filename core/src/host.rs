//! What the machine gives: time, randomness and files, behind traits, so that
//! tests can control them.

pub mod clock;
pub mod disk;
pub mod entropy;
pub mod shared;

pub use clock::{Clock, SystemClock};
pub use disk::{Disk, DiskFile, Fault, MemoryDisk, OpenMode, OsDisk, ScratchDisk, Space};
pub use entropy::{Entropy, SystemEntropy};
pub use shared::SharedMemory;
