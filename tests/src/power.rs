//! Power loss, simulated: a volume works on a disk that is recorded, and from
//! every prefix of the recording images are made of what the disk may hold if
//! the power goes off there. Each is opened like any store and compared with
//! what was promised.
//!
//! A [`History`] is determined by its seed, down to the last byte written:
//! nothing in it happens by time or by chance, and its volume does one thing
//! after the other. An image is determined by its number within the history.
//! So a failure is repeated by two numbers.

mod dice;
mod disk;
mod history;
mod image;
mod model;
mod recording;
mod volume;
mod workload;

pub use dice::Dice;
pub use disk::{Lie, Recorder};
pub use history::{Failure, History};
