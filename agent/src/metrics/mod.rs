//! Metrics in the Prometheus text format (`docs/metrics.md`).
//!
//! What is known as a state is read at the moment of a scrape (`collector`); what happens is counted where it
//! happens, through the methods of [`Metrics`]. Every label has a bounded set of values.

mod collector;
mod head_clock;
mod labels;
#[cfg(test)]
mod tests;

pub use collector::NodeCollector;
pub use labels::{BlockOutcome, PeerLabel, ProjectionOutcome, RequestOutcome};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use labels::{HttpLabels, OutcomeLabels, PeerRequestLabels};

/// Content type of the text that [`Metrics::encode`] gives.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of the node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    commits: Histogram,
    peer_requests: Family<PeerRequestLabels, Counter>,
    sync_blocks: Family<OutcomeLabels, Counter>,
    http_requests: Family<HttpLabels, Counter>,
    http_seconds: Histogram,
    rate_limited: Counter,
    batches_encoded: Counter,
    dgraph_transactions: Family<OutcomeLabels, Counter>,
    dgraph_mismatches: Counter,
    dgraph_rewinds: Counter,
    dgraph_repairs: Counter,
    dgraph_steps: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The metrics of a node, without anything of its state yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("honeygraph");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Version of the software", Info::new(version));
        // 1 ms to 16 s.
        let commits = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        registry.register_with_unit(
            "commit_duration",
            "Time of one commit, from its first write to its last fsync",
            Unit::Seconds,
            commits.clone(),
        );
        let peer_requests = Family::default();
        registry.register(
            "peer_requests",
            "Requests to peers by outcome; peers that no configuration names count together",
            peer_requests.clone(),
        );
        let sync_blocks = Family::default();
        registry.register(
            "sync_blocks",
            "Blocks that came from peers, by what became of them",
            sync_blocks.clone(),
        );
        let http_requests = Family::default();
        registry.register(
            "http_requests",
            "Answers by listener, route and status",
            http_requests.clone(),
        );
        let http_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        registry.register_with_unit(
            "http_request_duration",
            "Time until the head of an answer of the public API",
            Unit::Seconds,
            http_seconds.clone(),
        );
        let rate_limited = Counter::default();
        registry.register(
            "http_rate_limited",
            "Requests of the public API refused because their address sent too many",
            rate_limited.clone(),
        );
        let batches_encoded = Counter::default();
        registry.register(
            "batches_encoded",
            "Ranges of blocks that were encoded for peers; what a cache answered is not counted",
            batches_encoded.clone(),
        );
        let dgraph_transactions = Family::default();
        registry.register(
            "dgraph_transactions",
            "Transactions of the projection by outcome",
            dgraph_transactions.clone(),
        );
        let dgraph_mismatches = Counter::default();
        registry.register(
            "dgraph_mismatches",
            "Times that Dgraph was found to contradict the log",
            dgraph_mismatches.clone(),
        );
        let dgraph_rewinds = Counter::default();
        registry.register(
            "dgraph_rewinds",
            "Steps that took blocks back in Dgraph because they contradict the log",
            dgraph_rewinds.clone(),
        );
        let dgraph_repairs = Counter::default();
        registry.register(
            "dgraph_repairs",
            "Blocks, checkpoints and nodes of the state that differed from the log in Dgraph and were put right",
            dgraph_repairs.clone(),
        );
        let dgraph_steps = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        registry.register_with_unit(
            "dgraph_step",
            "Time of one step of the projection, from reading the log to Dgraph's answer",
            Unit::Seconds,
            dgraph_steps.clone(),
        );
        Self {
            registry: Arc::new(Mutex::new(registry)),
            commits,
            peer_requests,
            sync_blocks,
            http_requests,
            http_seconds,
            rate_limited,
            batches_encoded,
            dgraph_transactions,
            dgraph_mismatches,
            dgraph_rewinds,
            dgraph_repairs,
            dgraph_steps,
        }
    }

    /// Adds what is read from the node's state when somebody asks.
    pub fn collect(&self, collector: NodeCollector) {
        self.registry().register_collector(Box::new(collector));
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One commit is durable.
    pub fn observe_commit(&self, duration: Duration) {
        self.commits.observe(duration.as_secs_f64());
    }

    /// One request to a peer has ended.
    pub fn count_peer_request(&self, peer: PeerLabel<'_>, outcome: RequestOutcome) {
        let labels = PeerRequestLabels::new(peer, outcome);
        self.peer_requests.get_or_create(&labels).inc();
    }

    /// Blocks from peers were committed, refused, or found to be here already.
    pub fn count_sync_blocks(&self, outcome: BlockOutcome, blocks: u64) {
        self.sync_blocks
            .get_or_create(&OutcomeLabels::new(outcome))
            .inc_by(blocks);
    }

    /// A transaction of the projection has ended.
    pub fn count_dgraph_transaction(&self, outcome: ProjectionOutcome) {
        self.dgraph_transactions.get_or_create(&outcome.into()).inc();
    }

    /// Dgraph was found to contradict the log.
    pub fn count_dgraph_mismatch(&self) {
        self.dgraph_mismatches.inc();
    }

    /// Blocks that contradict the log were taken back in Dgraph.
    pub fn count_dgraph_rewind(&self) {
        self.dgraph_rewinds.inc();
    }

    /// What differed from the log was put right in Dgraph.
    pub fn count_dgraph_repairs(&self, repaired: u64) {
        self.dgraph_repairs.inc_by(repaired);
    }

    /// One step of the projection has ended.
    pub fn observe_dgraph_step(&self, duration: Duration) {
        self.dgraph_steps.observe(duration.as_secs_f64());
    }

    /// A listener has answered.
    pub(crate) fn count_http(&self, listener: &'static str, route: &str, status: u16) {
        let labels = HttpLabels {
            listener,
            route: route.to_owned(),
            status,
        };
        self.http_requests.get_or_create(&labels).inc();
    }

    /// The public API has answered.
    pub(crate) fn observe_http(&self, duration: Duration) {
        self.http_seconds.observe(duration.as_secs_f64());
    }

    /// The public API has refused a request of an address that sends too many.
    pub(crate) fn count_rate_limited(&self) {
        self.rate_limited.inc();
    }

    /// A range of blocks was encoded.
    pub(crate) fn count_batch_encoded(&self) {
        self.batches_encoded.inc();
    }

    /// All metrics as text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry())?;
        Ok(text)
    }
}
