//! A deterministic stand-in for a honeycomb network, for tests, benchmarks and the devnet.
//!
//! - [`generator`]: content like a honeycomb's, from a seed.
//! - [`reference_chain`]: the chain it makes, with hashes, checkpoints, running indexes, and forks.
//! - [`messages`]: what a honeycomb says on its WebSocket (`docs/protocol.md`, section 5).
//! - [`honeycomb_node`]: a node that makes blocks and pushes them to honeygraph nodes.
//! - [`receiver`]: how it feeds one of them.
//! - [`gateway`]: its documents, as an IPFS gateway serves them.
//! - [`peer_list`]: the list of honeygraph nodes that it serves over HTTP.

pub mod gateway;
pub mod generator;
pub mod honeycomb_node;
pub mod messages;
pub mod peer_list;
pub mod receiver;
pub mod reference_chain;
