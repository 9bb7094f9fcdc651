//! A deterministic stand-in for a honeycomb network, for tests, benchmarks and the devnet.
//!
//! - [`generator`]: content like a honeycomb's, from a seed.
//! - [`reference_chain`]: the chain it makes, with hashes, checkpoints, running indexes, and forks.

pub mod generator;
pub mod reference_chain;
