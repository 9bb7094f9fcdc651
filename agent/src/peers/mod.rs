//! Other nodes: which addresses we may dial, and how we ask them.

pub mod address_guard;
pub mod client;
pub mod fault;
pub mod registry;
pub mod scores;
mod source;
pub mod url;

pub use fault::FetchError;
pub use source::PeerSource;
pub use url::PeerUrl;
