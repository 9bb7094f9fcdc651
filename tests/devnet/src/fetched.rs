//! What a node fetched from its peers, out of its metrics.

/// What a node fetched since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fetched {
    /// Blocks from peers that were verified and made durable.
    pub blocks: u64,
    /// Peers that answered.
    pub peers: usize,
}

impl Fetched {
    /// Reads the metrics of a node, in the text format of Prometheus.
    pub(crate) fn from_metrics(text: &str) -> Self {
        let mut fetched = Self::default();
        for (name, value) in text.lines().filter_map(sample) {
            let committed = || name.contains("outcome=\"committed\"");
            let answered = || name.contains("outcome=\"success\"") && value > 0;
            if name.starts_with("honeygraph_sync_blocks_total{") && committed() {
                fetched.blocks += value;
            } else if name.starts_with("honeygraph_peer_requests_total{") && answered() {
                fetched.peers += 1;
            }
        }
        fetched
    }
}

/// The name with its labels, and the whole number behind it.
fn sample(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.rsplit_once(' ')?;
    Some((name, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_peers_are_counted() {
        let text = "# HELP honeygraph_sync_blocks Blocks\n\
            honeygraph_sync_blocks_total{outcome=\"committed\"} 812\n\
            honeygraph_sync_blocks_total{outcome=\"refused\"} 3\n\
            honeygraph_peer_requests_total{peer=\"http://127.0.0.1:1/\",outcome=\"success\"} 9\n\
            honeygraph_peer_requests_total{peer=\"http://127.0.0.1:1/\",outcome=\"timed_out\"} 2\n\
            honeygraph_peer_requests_total{peer=\"http://127.0.0.1:2/\",outcome=\"success\"} 4\n\
            honeygraph_peer_requests_total{peer=\"http://127.0.0.1:3/\",outcome=\"success\"} 0\n\
            honeygraph_store_bytes 1.5\n# EOF\n";
        assert_eq!(
            Fetched::from_metrics(text),
            Fetched {
                blocks: 812,
                peers: 2
            }
        );
        assert_eq!(Fetched::from_metrics(""), Fetched::default());
    }
}
