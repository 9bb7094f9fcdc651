//! Settings of the ingest listener.

use std::time::Duration;

use super::assembler::AssemblerLimits;
use super::tls::IngestTls;

/// What the listener says of itself, and what it puts up with.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// This node's name, in the greeting.
    pub node_id: String,
    /// The network we belong to (`dlux`, `spkcc`); sources of others are refused.
    pub network: String,
    /// How connections are encrypted; without it they are not.
    pub tls: Option<IngestTls>,
    /// Most bytes of one message.
    pub message_bytes: usize,
    /// Most operations of a `batch` message.
    pub batch_operations: usize,
    /// Most connections at a time, those that are still unknown included.
    pub connections: usize,
    /// How long a connection may take for its TLS handshake, and then again to ask for its upgrade.
    pub header_timeout: Duration,
    /// How long it may then take to identify itself.
    pub identify_timeout: Duration,
    /// Time between two pings.
    pub ping_interval: Duration,
    /// A connection that says nothing for this long, not even a pong, is closed.
    pub idle_timeout: Duration,
    /// A connection that takes nothing for this long is closed.
    pub write_timeout: Duration,
    /// Limits of what one source may make us hold.
    pub assembler: AssemblerLimits,
}

impl IngestSettings {
    /// The defaults for a node of a network.
    pub fn new(node_id: impl Into<String>, network: impl Into<String>) -> Self {
        Self {
            node_id: node_id.into(),
            network: network.into(),
            tls: None,
            message_bytes: 4 << 20,
            batch_operations: 10_000,
            connections: 64,
            header_timeout: Duration::from_secs(5),
            identify_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            idle_timeout: Duration::from_mins(1),
            write_timeout: Duration::from_secs(20),
            assembler: AssemblerLimits::default(),
        }
    }
}
