//! Which ports the network listens on.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

use anyhow::{Context, bail};
use rand::RngExt;

/// Ports from one node's first to the next one's.
const PORTS_PER_NODE: u16 = 10;

/// Where free ports are looked for: below those that systems hand out to outgoing connections, one of which
/// could otherwise take the port of a node that is offline.
const SEARCHED: std::ops::Range<u16> = 20_000..32_000;

/// The ports of one network: a block of numbers that starts at `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    base: u16,
    nodes: u16,
}

/// The listeners of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodePorts {
    /// Public API.
    pub public: SocketAddr,
    /// WebSocket for honeycombs.
    pub ingest: SocketAddr,
    /// Admin API.
    pub admin: SocketAddr,
    /// Probes and metrics.
    pub metrics: SocketAddr,
}

impl Ports {
    /// The ports from `base` on; an error names one that is in use.
    pub(crate) fn at(base: u16, nodes: u16) -> anyhow::Result<Self> {
        let ports = Self { base, nodes };
        let last = u32::from(base) + u32::from(nodes + 1) * u32::from(PORTS_PER_NODE);
        if last > u32::from(u16::MAX) {
            bail!("--port-base {base}: {nodes} nodes need ports up to {last}; choose a lower one");
        }
        for address in ports.all() {
            TcpListener::bind(address).with_context(|| {
                format!(
                    "port {} cannot be used; choose another --port-base",
                    address.port()
                )
            })?;
        }
        Ok(ports)
    }

    /// A block of free ports.
    pub(crate) fn free(nodes: u16) -> anyhow::Result<Self> {
        let size = (nodes + 1) * PORTS_PER_NODE;
        let blocks = (SEARCHED.end - SEARCHED.start) / size;
        // Where the search starts is chance, so that two networks that start at once do not meet.
        let first = rand::rng().random_range(0..blocks);
        (0..blocks)
            .map(|block| SEARCHED.start + (first + block) % blocks * size)
            .find_map(|base| Self::at(base, nodes).ok())
            .with_context(|| format!("no free ports between {} and {}", SEARCHED.start, SEARCHED.end))
    }

    /// Where the n-th honeycomb, counted from 0, serves its list of nodes.
    pub(crate) const fn honeycomb(self, place: u16) -> SocketAddr {
        loopback(self.base + place)
    }

    /// The listeners of the n-th node, counted from 0.
    pub(crate) const fn node(self, place: u16) -> NodePorts {
        let first = self.base + (place + 1) * PORTS_PER_NODE;
        NodePorts {
            public: loopback(first),
            ingest: loopback(first + 1),
            admin: loopback(first + 2),
            metrics: loopback(first + 3),
        }
    }

    fn all(self) -> impl Iterator<Item = SocketAddr> {
        let nodes = (0..self.nodes).map(move |place| self.node(place));
        let nodes = nodes.flat_map(|node| [node.public, node.ingest, node.admin, node.metrics]);
        [self.honeycomb(0), self.honeycomb(1)].into_iter().chain(nodes)
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_used_twice() {
        let ports = Ports {
            base: 20_000,
            nodes: 16,
        };
        let mut all: Vec<_> = ports.all().collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!((all.len(), count), (66, 66));
    }

    #[test]
    fn a_port_in_use_is_named() {
        let free = Ports::free(3).unwrap();
        let taken = TcpListener::bind(free.node(1).admin).unwrap();
        let error = Ports::at(free.base, 3).unwrap_err().to_string();
        assert!(
            error.contains(&taken.local_addr().unwrap().port().to_string()),
            "{error}"
        );
    }

    #[test]
    fn ports_end_at_65535() {
        assert!(Ports::at(65_000, 60).is_err());
    }
}
