//! The Kubernetes operator of Honeygraph: it makes a cluster say what the resources of `honeygraph-crds` say.

pub mod agent;
pub mod alerts;
pub mod cli;
#[cfg(test)]
mod committed;
pub mod conditions;
pub mod context;
pub mod controller;
pub mod dashboard;
pub mod drift;
pub mod error;
pub mod events;
pub mod metrics;
pub mod names;
pub mod node;
pub mod probes;
pub mod run;
pub mod settings;
