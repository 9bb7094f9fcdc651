//! What each part of a node is told, made of the configuration.

use std::path::{Path, PathBuf};

use honeygraph_chain::peer::PeerId;
use honeygraph_chain::planner::PlannerSettings;
use honeygraph_chain::quorum::{VoterId, Voters};

use crate::api::ApiSettings;
use crate::config::{Config, Start, SyncConfig, Verification, Voter, VoterName};
use crate::dgraph::projection::CHANGED_BLOCKS_MAX;
use crate::metrics::Metrics;
use crate::peers::registry::PeerRegistry;
use crate::replica::ReplicaSettings;
use crate::sync::SyncSettings;
use crate::wire::shapes::VerificationPolicy;

pub(super) fn api_settings(config: &Config, peer_id: PeerId) -> ApiSettings {
    ApiSettings {
        network: config.network.name.clone(),
        peer_id,
        advertise_url: config.node.advertise_url.clone(),
        verification: match config.network.verification {
            Verification::Strict => VerificationPolicy::Strict,
            Verification::Quorum => VerificationPolicy::Quorum,
        },
        api_keys: config.access.api_keys.clone(),
        admin_token: config.access.admin_token.clone(),
        trusted_proxies: config.access.trusted_proxies.clone(),
        limits: config.limits,
        cache_bytes: config.store.cache_bytes / 2,
    }
}

pub(super) fn replica_settings(config: &Config, metrics: Metrics) -> ReplicaSettings {
    let trusted = match &config.network.start {
        Start::TrustedCheckpoint(checkpoint) => Some((checkpoint.block, checkpoint.content_id)),
        Start::Join | Start::NewChain { .. } => None,
    };
    ReplicaSettings {
        network: config.network.name.to_string(),
        schedule: config.network.schedule,
        voters: voters(&config.network.voters),
        max_reorg_depth: config.network.max_reorg_depth,
        commit_blocks: config.store.commit_blocks,
        commit_interval: config.store.commit_interval,
        orphan_blocks: ReplicaSettings::ORPHAN_BLOCKS,
        pending_blocks: ReplicaSettings::PENDING_BLOCKS,
        pending_bytes: ReplicaSettings::PENDING_BYTES,
        trusted_checkpoint: trusted,
        state_documents: config.node.state_documents,
        kept_changes: config.dgraph.as_ref().map_or(0, |_| CHANGED_BLOCKS_MAX),
        metrics,
    }
}

fn voters(configured: &[Voter]) -> Voters {
    Voters::new(
        configured
            .iter()
            .map(|voter| (voter_id(&voter.name), voter.weight.get())),
    )
}

fn voter_id(name: &VoterName) -> VoterId {
    match name {
        VoterName::Source(name) => VoterId(name.to_string()),
        VoterName::Peer(url) => VoterId(PeerRegistry::key_of(url).to_string()),
    }
}

pub(super) fn sync_settings(config: &Config, own_id: PeerId, data_dir: &Path) -> SyncSettings {
    let voters_of_peers = config
        .network
        .voters
        .iter()
        .filter_map(|voter| match &voter.name {
            VoterName::Peer(url) => Some((url.clone(), voter_id(&voter.name))),
            VoterName::Source(_) => None,
        });
    let peer_voters: Vec<_> = voters_of_peers.collect();
    let sources = &config.sources;
    let genesis = config
        .network
        .genesis_file
        .clone()
        .map(|path| (path, config.network.genesis_id));
    // What configuration names has a place beside the others.
    let peers_max = sources.peers_max + sources.peers.len() + peer_voters.len();
    SyncSettings {
        enabled: config.sync.enabled,
        network: config.network.name.clone(),
        schedule: config.network.schedule,
        own_id,
        own_url: config.node.advertise_url.clone(),
        interval: config.sync.interval,
        discovery_interval: sources.discovery_interval,
        planner: planner_settings(&config.sync, peers_max),
        seed: rand::random(),
        peers: sources.peers.clone(),
        peers_max: sources.peers_max,
        voters: voters(&config.network.voters),
        peer_voters,
        verification: config.network.verification,
        honeycomb_nodes: sources.honeycomb_nodes.clone(),
        ipfs_gateways: sources.ipfs_gateways.clone(),
        document_bytes_max: sources.document_bytes_max,
        documents_directory: documents_directory(data_dir),
        genesis,
        start: config.network.start.clone(),
        history: config.node.history,
    }
}

fn documents_directory(data_dir: &Path) -> PathBuf {
    data_dir.join("documents")
}

fn planner_settings(config: &SyncConfig, peers_max: usize) -> PlannerSettings {
    let default = PlannerSettings::default();
    PlannerSettings {
        peers_max,
        range_blocks_first: config.range_blocks,
        range_blocks_min: config.range_blocks_min,
        range_blocks_max: config.range_blocks_max,
        range_bytes: config.range_bytes,
        peer_window_first: u32::try_from(config.in_flight_per_peer).unwrap_or(default.peer_window_first),
        peer_window_max: u32::try_from(config.in_flight_per_peer_max).unwrap_or(default.peer_window_max),
        in_flight_max: config.in_flight_max,
        buffer_bytes_max: config.buffer_bytes,
        buffer_blocks_max: config.buffer_blocks,
        hedge_after_min: config.hedge_after,
        hedge_percent: u64::from(config.hedge_percent),
        quarantine_after_peers: config.quarantine_peers,
        quarantine_for: config.quarantine,
        back_off_first: config.backoff,
        back_off_max: config.backoff_max,
        circuit: config.circuit,
        ban: config.ban,
        timeout: config.timeout,
        ..default
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use clap::FromArgMatches as _;

    use super::*;
    use crate::config::{RawConfig, command, read_small_file, validate};

    pub(in crate::node) fn config(flags: &[&str]) -> Config {
        let command = command().mut_args(|argument| argument.env(None::<&'static str>));
        let raw = RawConfig::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap();
        validate(raw, &read_small_file).unwrap()
    }

    #[test]
    fn the_planner_gets_the_settings_of_peers() {
        let config = config(&[
            "--sync-timeout-min-ms=3000",
            "--sync-circuit-faults=2",
            "--sync-ban-ms=60000",
        ]);
        let planner = planner_settings(&config.sync, config.sources.peers_max);
        assert_eq!(planner.timeout.shortest, Duration::from_secs(3));
        assert_eq!(planner.circuit.opens_after_faults, 2);
        assert_eq!(planner.ban.first, Duration::from_mins(1));
    }
}
