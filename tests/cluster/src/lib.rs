//! A real Kubernetes cluster on one machine, of the upstream programs, for tests of the operator. What it is and how to
//! use it by hand: `docs/test-cluster.md`.
//!
//! ```no_run
//! use honeygraph_test_cluster::{Cluster, Level};
//!
//! # fn main() -> anyhow::Result<()> {
//! let cluster = Cluster::start(Level::One)?;
//! println!("{}", cluster.kubectl().run(["get", "namespaces"])?);
//! // All that was started ends with `cluster`.
//! # Ok(())
//! # }
//! ```

mod addresses;
mod all;
mod certificates;
mod cluster;
mod control_groups;
mod control_plane;
mod home;
mod image;
mod kind_config;
mod kubectl;
mod level;
mod manifests;
mod network;
mod node;
mod parts;
mod process;
mod programs;
mod proxy;
mod record;
mod removal;
mod requirements;
mod start;
mod storage;
mod tools;

pub use all::{Condition, PartCondition, Removal, Watched, conditions, remove_all};
pub use cluster::{Cluster, Options};
pub use control_plane::AuditLog;
pub use home::{UP, clusters};
pub use image::{BUSYBOX, Image};
pub use kind_config::check_kind_config;
pub use kubectl::Kubectl;
pub use level::Level;
pub use manifests::{check_manifests, write_manifests};
pub use node::REGIONS;
pub use programs::{Program, build_program, build_programs};
pub use requirements::missing;
pub use storage::STORAGE_CLASS;
pub use tools::{ASSETS_VARIABLE, ToolSet};
