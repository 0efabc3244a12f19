//! The operations of COMPOUND, by what they are about.

mod attributes;
mod data;
mod extended;
mod handles;
mod listing;
mod locking;
mod names;
mod opening;
mod sessions;
