//! The honeygraph node agent: takes blocks from honeycomb, finds gaps, fetches them from peers, verifies,
//! commits, and serves what it holds.
//!
//! Data flows one way: `ingest` and `sync` hand verified blocks to `replica`, the only writer of `store`;
//! `api` reads. What decides is in `honeygraph_chain`, without I/O; see `docs/architecture.md`.

pub mod api;
pub mod cli;
pub mod config;
pub mod dgraph;
pub mod ingest;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod peers;
pub mod replica;
pub mod store;
pub mod sync;
pub mod wire;

#[cfg(test)]
mod documentation;
#[cfg(test)]
mod test_chain;
