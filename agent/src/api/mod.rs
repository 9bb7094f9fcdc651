//! The HTTP listeners besides ingest: public API (3030), admin (3031), probes and metrics (9100).
//!
//! Each is a pure function from the [`Node`] to a router ([`public::router`], [`admin::router`],
//! [`probes::router`]), so that tests call it without sockets; [`serve`](serve::serve) puts one on a listener.
//! `public` names all calls of `docs/protocol.md`, section 6; each subject has a file of its own below it.

pub mod admin;
mod admin_dgraph;
mod authorize;
mod client_address;
pub mod control;
mod error;
mod extract;
mod limits;
pub mod node;
pub mod probes;
pub mod public;
pub mod serve;
pub(crate) mod standing;
#[cfg(test)]
mod tests;
mod work;

pub use control::SyncControl;
pub use node::{ApiSettings, DgraphView, Node};
pub use public::openapi;
pub use serve::{Listeners, ServeLimits, serve, serve_node};
