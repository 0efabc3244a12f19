//! Multipart uploads.
//!
//! An upload is a directory that no client sees: its attributes say what it is
//! to become, its files are the parts. Completing it makes a file that shares
//! what the parts have stored. Everything about an upload is durable, so a
//! client can go on with it after the server was started again.

mod complete;
mod listing;
mod parts;
mod upload;
