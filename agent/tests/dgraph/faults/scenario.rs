//! A honeycomb, the node that it feeds, and the Dgraph that the node keeps in step.

use std::path::Path;
use std::time::{Duration, Instant};

use honeygraph_agent::dgraph::client::{DgraphClient, DgraphSettings, EndpointUrl};
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_agent::wire::shapes::{DgraphStatus, SyncStatus};

use crate::cluster::{Cluster, ready};
use crate::common::{Network, TestNode};
use crate::equality::{Compared, compare};

/// Longest wait for Dgraph: the node tries a Dgraph that was away again after half a minute at most, and a
/// transaction that hangs is given up after one.
const PATIENCE: Duration = Duration::from_mins(4);

/// Time between two looks at a status that nothing announces.
const LOOK: Duration = Duration::from_millis(50);

/// A cluster that answers.
pub(super) async fn cluster(program: &Path, directory: &Path) -> Cluster {
    let cluster = Cluster::start(program, directory, &["--security", "whitelist=127.0.0.1"]);
    ready(&cluster.client()).await;
    cluster
}

/// A client that reads answers of any size.
pub(super) fn reader(cluster: &Cluster) -> DgraphClient {
    let mut settings = DgraphSettings::new(vec![cluster.endpoint()]);
    settings.max_answer_bytes = 1 << 30;
    settings.timeouts.query = Duration::from_mins(2);
    DgraphClient::new(settings).unwrap()
}

/// A node that keeps a Dgraph in step.
pub(super) struct Node {
    name: String,
    running: TestNode,
    http: reqwest::Client,
}

impl Node {
    /// Starts a node on a cluster.
    pub(super) async fn start(network: &Network, name: &str, alpha: &EndpointUrl, flags: &[&str]) -> Self {
        let alpha = alpha.to_string();
        let flags = [&["--dgraph-alpha", &alpha, "--peer-id", name], flags].concat();
        Self {
            name: name.to_owned(),
            running: network.node(name, &flags).await,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub(super) fn node(&self) -> &TestNode {
        &self.running
    }

    /// What it says of its Dgraph, and of itself.
    pub(super) async fn status(&self) -> (DgraphStatus, SyncStatus) {
        let url = format!("{}/api/sync/status", self.running.url());
        let answer = self.http.get(url).send().await.unwrap();
        let status: SyncStatus = answer.json().await.unwrap();
        (status.dgraph.clone().unwrap(), status)
    }

    /// Waits until it says something of its Dgraph.
    pub(super) async fn wait_for(&self, what: &str, is: impl Fn(&DgraphStatus, &SyncStatus) -> bool) {
        let began = Instant::now();
        loop {
            let (dgraph, status) = self.status().await;
            if is(&dgraph, &status) {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{}: waited too long for {what}: {dgraph:#?}",
                self.name
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until Dgraph stands where the log stands, blocks and state.
    pub(super) async fn wait_in_step(&self, network: &Network) {
        // Of the very last block it is known only at a checkpoint that nothing more comes.
        let head = Some(network.head());
        self.wait_for("Dgraph to have the whole log", |dgraph, status| {
            status.state_height >= head
                && dgraph.applied_block == status.state_height
                && dgraph.state_block == status.state_height
                && dgraph.lag_blocks == Some(0)
        })
        .await;
        let (dgraph, _) = self.status().await;
        assert!(dgraph.connected, "{dgraph:?}");
        assert_eq!((dgraph.mismatch, dgraph.last_error), (None, None));
        assert_eq!(self.metric("honeygraph_dgraph_up").await, 1);
        assert_eq!(self.metric("honeygraph_dgraph_lag_blocks").await, 0);
        let applied = dgraph.applied_block.unwrap().get();
        assert_eq!(self.metric("honeygraph_dgraph_applied_block").await, applied);
    }

    /// A metric; 0 where there is none.
    pub(super) async fn metric(&self, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.running.running.addresses.metrics);
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0)
    }

    /// Stops it and compares all that Dgraph has with all that its log has.
    pub(super) async fn expect_equal(self, network: &Network, client: &DgraphClient) -> Compared {
        let directory = network.directory(&self.name).join("data");
        self.running.stop().await;
        let (store, _writer, _) = Store::open(&directory, &StoreSettings::default()).unwrap();
        let compared = compare(client, &store.view()).await;
        compared.unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }
}

/// A honeycomb, one node, one Dgraph.
pub(super) struct Scenario {
    pub(super) network: Network,
    pub(super) cluster: Cluster,
    pub(super) node: Node,
}

impl Scenario {
    /// Starts all three; Dgraph has the first blocks.
    pub(super) async fn start(cluster: Cluster) -> Self {
        let alpha = cluster.endpoint();
        Self::start_behind(cluster, &alpha).await
    }

    /// The same, where the node reaches the alpha at another address.
    pub(super) async fn start_behind(cluster: Cluster, alpha: &EndpointUrl) -> Self {
        let network = Network::start();
        let node = Node::start(&network, "node", alpha, &[]).await;
        crate::common::feed(&network.honeycomb, node.node());
        let scenario = Self {
            network,
            cluster,
            node,
        };
        scenario.grow(300).await;
        scenario.node.wait_in_step(&scenario.network).await;
        scenario
    }

    /// The log commits further blocks, whatever is the matter with Dgraph.
    pub(super) async fn grow(&self, blocks: u64) {
        self.network.produce(blocks);
        self.network.wait_complete(self.node.node()).await;
    }

    /// Goes on for some blocks, and compares everything.
    pub(super) async fn end(self) -> Compared {
        self.grow(30).await;
        self.node.wait_in_step(&self.network).await;
        let client = reader(&self.cluster);
        let compared = self.node.expect_equal(&self.network, &client).await;
        let blocks = self.network.head().distance_from(self.network.first_block()) + 1;
        assert!(u64::try_from(compared.blocks).unwrap() >= blocks);
        assert!(compared.leaves > 0);
        compared
    }
}
