//! Dgraph, the store that people query: a projection of the log, never its source.
//!
//! See `docs/dgraph.md`.

pub mod client;
pub mod job;
pub mod pass_through;
pub mod projection;
pub mod service;
pub mod status;
