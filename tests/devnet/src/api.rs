//! Reading a node over HTTP, as anyone could.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use honeygraph_agent::wire::shapes::{Anchors, Gaps, HashAnswer, SyncStatus};
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::{BlockNumber, BlockRange};
use serde::de::DeserializeOwned;

use crate::convergence::Testimony;
use crate::observation::Standing;

/// Time for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Reads nodes.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: reqwest::Client,
}

impl Api {
    /// A client that never leaves this machine.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_TIME)
            .no_proxy()
            .build()
            .context("no HTTP client")?;
        Ok(Self { client })
    }

    /// Where the node stands, seen against the chain as it is; none where it does not answer.
    pub(crate) async fn standing(&self, public: SocketAddr, chain: BlockRange) -> Option<Standing> {
        let (from, to) = (chain.start(), chain.end());
        let (status, gaps) = tokio::join!(
            self.get::<SyncStatus>(public, "api/sync/status".to_owned()),
            self.get::<Gaps>(public, format!("api/sync/gaps?from={from}&to={to}")),
        );
        let status = status?;
        let mut missing = IntervalSet::default();
        match gaps {
            Some(gaps) => {
                let gaps = gaps.gaps.into_vec();
                for gap in gaps.into_iter().filter_map(|gap| BlockRange::try_from(gap).ok()) {
                    missing.insert(gap);
                }
                if status.state_height.is_none() {
                    missing.insert(chain);
                }
            }
            None => missing.insert(chain),
        }
        Some(Standing { status, missing })
    }

    /// What the node says about a block that is a checkpoint.
    pub(crate) async fn testimony(&self, public: SocketAddr, block: BlockNumber) -> Testimony {
        let (hash, anchors) = tokio::join!(
            self.get::<HashAnswer>(public, format!("api/sync/hash/{block}")),
            self.get::<Anchors>(public, format!("api/sync/anchors?from={block}&to={block}")),
        );
        let anchors = anchors
            .map(|answer| answer.anchors.into_vec())
            .unwrap_or_default();
        Testimony {
            hash: hash.filter(|hash| hash.block_num == block),
            anchor: anchors.into_iter().find(|anchor| anchor.block_num == block),
        }
    }

    /// The node's metrics.
    pub(crate) async fn metrics(&self, metrics: SocketAddr) -> Option<String> {
        let answer = self.client.get(format!("http://{metrics}/metrics")).send().await;
        answer.ok()?.error_for_status().ok()?.text().await.ok()
    }

    async fn get<T: DeserializeOwned>(&self, address: SocketAddr, call: String) -> Option<T> {
        let answer = self.client.get(format!("http://{address}/{call}")).send().await;
        answer.ok()?.error_for_status().ok()?.json().await.ok()
    }
}
