//! Metrics that are read from the node's state at the moment of a scrape.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use honeygraph_chain::peer::Standing;
use honeygraph_chain::{BlockNumber, BlockRange};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use super::head_clock::HeadClock;
use crate::dgraph::status::ProjectionStatus;
use crate::replica::ReplicaStatus;
use crate::store::Store;
use crate::sync::{PeerSummary, SyncView};

/// Reads the replica, the sync engine and the store.
#[derive(Debug)]
pub struct NodeCollector {
    store: Store,
    replica: watch::Receiver<Arc<ReplicaStatus>>,
    sync: watch::Receiver<Arc<SyncView>>,
    projection: Option<watch::Receiver<ProjectionStatus>>,
    head_clock: HeadClock,
}

impl NodeCollector {
    /// A collector of what these say at the moment of a scrape. Without a Dgraph there is no projection.
    pub fn new(
        store: Store,
        replica: watch::Receiver<Arc<ReplicaStatus>>,
        sync: watch::Receiver<Arc<SyncView>>,
        projection: Option<watch::Receiver<ProjectionStatus>>,
    ) -> Self {
        Self {
            store,
            replica,
            sync,
            projection,
            head_clock: HeadClock::default(),
        }
    }

    fn encode_replica(&self, out: &mut Writer<'_>) -> fmt::Result {
        let status = Arc::clone(&self.replica.borrow());
        let position = status.position.as_ref();
        if let Some(position) = position {
            let height = position.state_height;
            out.gauge(
                "state_height_block",
                "Highest block whose state is applied",
                height.get(),
            )?;
            out.gauge(
                "head_block",
                "Highest stored canonical block",
                status.have.last().unwrap_or(height).max(height).get(),
            )?;
            encode_above_gap(&status, height, out)?;
            if let Some(block) = position.irreversible_block() {
                out.gauge("irreversible_block", "Last irreversible block", block.get())?;
            }
            if let Some(head) = self.sync.borrow().network_head(&status) {
                out.gauge(
                    "sync_lag_blocks",
                    "Network head minus state height",
                    head.distance_from(height),
                )?;
            }
            out.gauge(
                "missing_blocks",
                "Blocks missing inside the wanted range",
                gaps(&status, &self.sync.borrow()).sum::<u64>(),
            )?;
            out.gauge(
                "largest_gap_blocks",
                "Blocks of the largest gap inside the wanted range",
                gaps(&status, &self.sync.borrow()).max().unwrap_or(0),
            )?;
        }
        if let Some(head) = self.sync.borrow().network_head(&status) {
            out.gauge(
                "network_head_block",
                "Highest head that trusted sources report",
                head.get(),
            )?;
            out.gauge(
                "network_head_timestamp_seconds",
                "When the network head was last seen to change, Unix time",
                self.head_clock.since(head, unix_seconds()),
            )?;
        }
        let off_chain = status.sources.iter().filter(|source| {
            source.connected && (source.set_aside.is_some() || (source.tip.is_some() && !source.canonical))
        });
        out.gauge(
            "fork_divergence",
            "Connected sources that stand on another fork than this replica, or are set aside",
            off_chain.count() as u64,
        )?;
        let connected = status.sources.iter().filter(|source| source.connected);
        out.gauge(
            "sources_connected",
            "Honeycombs connected",
            connected.count() as u64,
        )?;
        out.gauge(
            "forks",
            "Forks above the last irreversible block",
            status.forks.len() as u64,
        )?;
        let halted = position.is_some_and(|position| position.halted.is_some());
        out.gauge("halted", "1 while commits are stopped", u64::from(halted))?;
        encode_counters(&status, out)
    }

    fn encode_sync(&self, out: &mut Writer<'_>) -> fmt::Result {
        let view = Arc::clone(&self.sync.borrow());
        out.counter("gaps_detected", "Gaps noticed", view.gaps_detected)?;
        out.gauge(
            "syncing",
            "1 while missing blocks are fetched",
            u64::from(view.is_syncing),
        )?;
        let planner = &view.planner;
        out.gauge(
            "sync_buffer_bytes",
            "Bytes between fetching and committing",
            planner.held_bytes,
        )?;
        out.gauge(
            "sync_buffer_blocks",
            "Blocks between fetching and committing",
            planner.buffered_blocks,
        )?;
        out.gauge(
            "sync_in_flight_blocks",
            "Blocks asked for",
            planner.in_flight_blocks,
        )?;
        out.gauge(
            "sync_quarantined_blocks",
            "Blocks left alone for a while: too many peers answered badly",
            planner.quarantined_blocks,
        )?;
        out.gauge(
            "sync_requests_in_flight",
            "Requests to peers in flight",
            planner.requests_in_flight as u64,
        )?;
        out.counter(
            "sync_fetched_bytes",
            "Bytes of blocks that peers sent, needed or not",
            view.fetched_bytes,
        )?;
        out.counter(
            "sync_received_bytes",
            "Bytes received for them, compressed",
            view.received_bytes,
        )?;
        out.counter(
            "sync_needed_bytes",
            "Bytes of blocks that were needed",
            view.needed_bytes,
        )?;
        let states = PeerState::ALL.map(|state| {
            let peers = view.peers.iter().filter(|peer| PeerState::of(peer) == state);
            (state.as_str(), peers.count() as u64)
        });
        out.gauges("peers", "Known peers by state", "state", &states)
    }
}

impl NodeCollector {
    fn encode_dgraph(&self, out: &mut Writer<'_>) -> fmt::Result {
        let Some(projection) = &self.projection else {
            return Ok(());
        };
        let status = Arc::clone(&self.replica.borrow());
        let height = status.position.as_ref().map(|position| position.state_height);
        let projection = projection.borrow().clone();
        out.gauge(
            "dgraph_up",
            "1 while Dgraph answers the projection",
            u64::from(projection.connected),
        )?;
        out.gauge(
            "dgraph_mismatch",
            "1 while Dgraph stands at a block that contradicts the log",
            u64::from(projection.mismatch.is_some()),
        )?;
        if let Some(applied) = projection.applied {
            out.gauge(
                "dgraph_applied_block",
                "Block up to which Dgraph has blocks and operations",
                applied.number.get(),
            )?;
        }
        match height.and_then(|height| projection.lag(height)) {
            Some(lag) => out.gauge("dgraph_lag_blocks", "State height minus that block", lag),
            None => Ok(()),
        }
    }
}

impl Collector for NodeCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer { encoder };
        self.encode_replica(&mut out)?;
        self.encode_sync(&mut out)?;
        self.encode_dgraph(&mut out)?;
        match self.store.disk_bytes() {
            Ok(bytes) => out.gauge("store_bytes", "Bytes of the store on disk", bytes),
            Err(error) => {
                tracing::warn!(%error, "size of the store is not known");
                Ok(())
            }
        }
    }
}

/// What the replica has counted since its start.
fn encode_counters(status: &ReplicaStatus, out: &mut Writer<'_>) -> fmt::Result {
    let counters = status.counters;
    out.counter(
        "committed_blocks",
        "Blocks made durable",
        counters.committed_blocks,
    )?;
    out.counter(
        "fork_blocks",
        "Blocks of forks that were kept",
        counters.fork_blocks,
    )?;
    out.counter("reorgs", "Reorganizations", counters.reorganizations)?;
    out.gauge(
        "reorg_depth_blocks",
        "Blocks undone by the last reorganization",
        counters.last_reorganization_depth,
    )?;
    out.counter(
        "state_hash_mismatches",
        "Checkpoints that did not compute to what was reported",
        counters.state_hash_mismatches,
    )?;
    out.counter(
        "divergences",
        "Times that the voters agreed on another chain than this replica's",
        counters.divergences,
    )?;
    out.counter(
        "sources_set_aside",
        "Times that a source was set aside",
        counters.sources_set_aside,
    )
}

/// What is stored above a gap.
fn encode_above_gap(status: &ReplicaStatus, height: BlockNumber, out: &mut Writer<'_>) -> fmt::Result {
    let above = BlockRange::new(height.next(), BlockNumber::MAX);
    let above = above
        .ok()
        .into_iter()
        .flat_map(|above| status.have.present_in(above));
    out.gauge(
        "unapplied_blocks",
        "Stored blocks above a gap, whose state is not applied yet",
        above.map(BlockRange::len).sum::<u64>(),
    )?;
    out.counter(
        "unapplied_blocks_discarded",
        "Blocks stored above a gap that did not fit what came below them",
        status.counters.ahead_discarded,
    )
}

/// Lengths of the gaps between the first wanted block and the highest that is known to exist.
fn gaps(status: &ReplicaStatus, sync: &SyncView) -> impl Iterator<Item = u64> {
    crate::api::standing::wanted_range(status, sync)
        .into_iter()
        .flat_map(|wanted| status.have.missing_in(wanted))
        .map(BlockRange::len)
}

/// What a peer is good for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeerState {
    Alive,
    Unreachable,
    Probation,
    Banned,
}

impl PeerState {
    const ALL: [Self; 4] = [Self::Alive, Self::Unreachable, Self::Probation, Self::Banned];

    const fn of(peer: &PeerSummary) -> Self {
        match peer.standing {
            Standing::Banned { .. } => Self::Banned,
            Standing::Probation => Self::Probation,
            Standing::Good if peer.is_alive => Self::Alive,
            Standing::Good => Self::Unreachable,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Unreachable => "unreachable",
            Self::Probation => "probation",
            Self::Banned => "banned",
        }
    }
}

struct Writer<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        let metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        gauge.encode(metric)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        let metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        counter.encode(metric)
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (label_value, value) in values {
            let labels = [(label, *label_value)];
            ConstGauge::new(*value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
