//! The Kubernetes resources of Honeygraph, group `honeygraph.io`, version `v1alpha1`.
//!
//! [`HoneygraphNode`] is one replica of one network in one region, [`Checkpoint`] an anchor with its volume
//! snapshots. The types are as lenient as the API is: quantities and durations are text, parts may be left out. What
//! must hold is said in the schema, with rules in CEL that the apiserver runs; [`definitions`] has both. This crate
//! holds no client.

#![allow(
    unreachable_pub,
    reason = "the derived schemas copy a struct, with its `pub`, into a function"
)]

mod checkpoint;
mod common;
mod condition;
mod definition;
mod node;
pub mod reference;
mod rules;
mod schema;

pub use checkpoint::{
    Checkpoint, CheckpointPhase, CheckpointSpec, CheckpointStatus, CheckpointVolume, DeletionPolicy,
};
pub use common::{
    CheckpointReference, ConfigMapKeyReference, EnvironmentVariable, EnvironmentVariableSource,
    NodeReference, RESERVED_VARIABLES, ResourceRequirements, SecretKeyReference, Storage,
};
pub use condition::{CheckpointCondition, NodeCondition};
pub use definition::{GROUP, VERSION, checkpoint, definitions, honeygraph_node, yaml};
pub use node::*;
