//! What goes over the wire between nodes: the batch format of block ranges and the JSON shapes of the
//! HTTP API. Client and server share it. No I/O here.

pub mod batch;
pub mod capped;
pub mod network_name;
pub mod shapes;
pub mod unix_millis;

pub use network_name::NetworkName;
pub use unix_millis::UnixMillis;

/// Version of the protocol between our own nodes (`docs/protocol.md`): batch wire, capabilities, anchors.
pub const PROTOCOL_VERSION: u16 = 1;
