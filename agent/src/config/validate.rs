//! Checks settings against each other and makes the strict configuration. Pure but for the file reader that
//! is handed in.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::peer::{BanSettings, CircuitSettings, TimeoutSettings};

use super::arguments::{
    AccessArguments, NetworkArguments, NodeArguments, RawConfig, SourceArguments, SyncArguments,
};
use super::dgraph;
use super::secret::Secret;
use super::settings::{
    AccessConfig, Config, History, LimitConfig, ListenerConfig, LoggingConfig, NetworkConfig, NodeConfig,
    SourceConfig, Start, StoreConfig, SyncConfig,
};
use super::usage::{ConfigError, ShownValue};
use super::values::{Refused, Source, Voter, VoterName, entries, secret};
use crate::ingest::{IngestTls, SourceId, TlsFile, TlsFiles};

/// Largest file of keys, tokens or sources, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a small text file, for [`validate`].
pub fn read_small_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1);
    file.read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        Err(io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes")))
    } else {
        Ok(text)
    }
}

/// Makes the strict configuration, or says which setting is wrong.
///
/// `read` reads the files that settings name; [`read_small_file`] outside tests.
pub fn validate(raw: RawConfig, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Config, ConfigError> {
    let sources = sources(&raw.sources, read)?;
    let network = network(raw.network, &sources)?;
    let listeners = listeners(&raw.access)?;
    let access = access(&raw.access, &sources, read)?;
    Ok(Config {
        node: node(raw.node, &network)?,
        dgraph: dgraph::dgraph(&raw.dgraph, &access, raw.limits.limit_request_timeout_ms, read)?,
        access,
        sync: sync(&raw.sync)?,
        network,
        sources,
        listeners,
        store: StoreConfig {
            commit_blocks: raw.store.commit_blocks,
            commit_interval: raw.store.commit_interval_ms,
            cache_bytes: raw.store.store_cache_bytes,
        },
        limits: LimitConfig {
            body_bytes: raw.limits.limit_body_bytes,
            rate_per_address: raw.limits.limit_rate_per_address,
            rate_per_peer: raw.limits.limit_rate_per_peer,
            concurrent_requests: raw.limits.limit_concurrent_requests,
            request_timeout: raw.limits.limit_request_timeout_ms,
            ingest_connections: raw.limits.limit_ingest_connections,
            ingest_message_bytes: raw.limits.limit_ingest_message_bytes,
        },
        logging: LoggingConfig {
            filter: raw.process.log,
            format: raw.process.log_format,
        },
        shutdown_timeout: raw.process.shutdown_timeout_ms,
    })
}

fn network(raw: NetworkArguments, sources: &SourceConfig) -> Result<NetworkConfig, ConfigError> {
    let schedule = schedule(&raw)?;
    let start = start(&raw, &schedule)?;
    let voters = voters(&raw.voters, sources)?;
    Ok(NetworkConfig {
        name: raw.network,
        schedule,
        genesis_file: raw.genesis_file,
        genesis_id: raw.genesis_id,
        start,
        verification: raw.verification,
        voters,
        max_reorg_depth: raw.max_reorg_depth,
    })
}

fn schedule(raw: &NetworkArguments) -> Result<CheckpointSchedule, ConfigError> {
    let schedule = CheckpointSchedule {
        delta_interval: raw.checkpoint_delta_interval,
        delta_offset: raw.checkpoint_delta_offset,
        state_interval: raw.checkpoint_state_interval,
        state_offset: raw.checkpoint_state_offset,
    };
    below(
        ("CHECKPOINT_DELTA_OFFSET", schedule.delta_offset),
        ("CHECKPOINT_DELTA_INTERVAL", schedule.delta_interval),
    )?;
    below(
        ("CHECKPOINT_STATE_OFFSET", schedule.state_offset),
        ("CHECKPOINT_STATE_INTERVAL", schedule.state_interval),
    )?;
    if !schedule.state_interval.is_multiple_of(schedule.delta_interval) {
        return Err(wrong(
            "CHECKPOINT_STATE_INTERVAL",
            schedule.state_interval,
            format!(
                "must be a multiple of CHECKPOINT_DELTA_INTERVAL ({})",
                schedule.delta_interval
            ),
        ));
    }
    if schedule.state_offset % schedule.delta_interval != schedule.delta_offset {
        return Err(wrong(
            "CHECKPOINT_STATE_OFFSET",
            schedule.state_offset,
            format!(
                "a full state must fall on a checkpoint: its remainder by CHECKPOINT_DELTA_INTERVAL ({}) must be \
                 CHECKPOINT_DELTA_OFFSET ({})",
                schedule.delta_interval, schedule.delta_offset
            ),
        ));
    }
    Ok(schedule)
}

fn start(raw: &NetworkArguments, schedule: &CheckpointSchedule) -> Result<Start, ConfigError> {
    match (raw.init_chain, &raw.genesis_file, raw.trusted_checkpoint) {
        (true, _, Some(checkpoint)) => Err(wrong(
            "TRUSTED_CHECKPOINT",
            checkpoint,
            "cannot be joined while INIT_CHAIN=true starts a new chain; unset one of them",
        )),
        (true, None, None) => Err(wrong(
            "INIT_CHAIN",
            true,
            "needs the genesis document; name it in GENESIS_FILE",
        )),
        (true, Some(genesis_file), None) => Ok(Start::NewChain {
            genesis_file: genesis_file.clone(),
        }),
        (false, _, None) => Ok(Start::Join),
        (false, _, Some(checkpoint)) if schedule.kind_at(checkpoint.block).is_none() => Err(wrong(
            "TRUSTED_CHECKPOINT",
            checkpoint,
            format!(
                "block {} is no checkpoint of this network (CHECKPOINT_DELTA_INTERVAL {}, CHECKPOINT_DELTA_OFFSET {})",
                checkpoint.block, schedule.delta_interval, schedule.delta_offset
            ),
        )),
        (false, _, Some(checkpoint)) => Ok(Start::TrustedCheckpoint(checkpoint)),
    }
}

/// Named voters must be honeycombs or peers of this configuration. With none named all of these vote, or with
/// none of these the honeycombs on this machine.
fn voters(named: &[Voter], sources: &SourceConfig) -> Result<Vec<Voter>, ConfigError> {
    let loopback = VoterName::Source(SourceId::loopback());
    let mut known: Vec<VoterName> = sources
        .honeycombs
        .iter()
        .map(|source| &source.name)
        .chain(&sources.certified)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|name| VoterName::Source(name.clone()))
        .chain(sources.peers.iter().cloned().map(VoterName::Peer))
        .collect();
    if !named.is_empty() || known.is_empty() {
        known.push(loopback);
    }
    if named.is_empty() {
        let equal = |name| Voter {
            name,
            weight: NonZeroU32::MIN,
        };
        return Ok(known.into_iter().map(equal).collect());
    }
    let mut seen = Vec::new();
    for voter in named {
        if seen.contains(&&voter.name) {
            return Err(wrong("VOTERS", &voter.name, "votes only once; name it once"));
        }
        if !known.contains(&voter.name) {
            return Err(wrong(
                "VOTERS",
                &voter.name,
                "a voter must be a name of HONEYCOMB_SOURCES or HONEYCOMB_CERTIFICATES, `loopback` or an address of \
                 PEERS; add it there",
            ));
        }
        seen.push(&voter.name);
    }
    Ok(named.to_vec())
}

fn node(raw: NodeArguments, network: &NetworkConfig) -> Result<NodeConfig, ConfigError> {
    let history = NonZeroU64::new(raw.history_blocks).map_or(History::All, History::Newest);
    if let History::Newest(blocks) = history {
        at_most(
            ("MAX_REORG_DEPTH", network.max_reorg_depth),
            ("HISTORY_BLOCKS", blocks.get()),
        )?;
        at_most(
            ("CHECKPOINT_DELTA_INTERVAL", network.schedule.delta_interval),
            ("HISTORY_BLOCKS", blocks.get()),
        )?;
    }
    Ok(NodeConfig {
        peer_id: raw.peer_id,
        advertise_url: raw.advertise_url,
        data_dir: raw.data_dir,
        history,
        state_documents: NonZeroUsize::new(raw.state_documents).unwrap_or(NonZeroUsize::MIN),
    })
}

fn sources(
    raw: &SourceArguments,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<SourceConfig, ConfigError> {
    let mut honeycombs = raw.honeycomb_sources.clone();
    if let Some(path) = &raw.honeycomb_sources_file {
        honeycombs.extend(lines("HONEYCOMB_SOURCES_FILE", path, read, str::parse::<Source>)?);
    }
    for (at, source) in honeycombs.iter().enumerate() {
        for other in honeycombs.iter().take(at) {
            if other.name == source.name {
                let problem = "named twice; give each source a name of its own";
                return Err(wrong("HONEYCOMB_SOURCES", &source.name, problem));
            }
            if other.token == source.token {
                let problem = format!(
                    "has the token of `{}`; give each source a token of its own",
                    other.name
                );
                return Err(wrong("HONEYCOMB_SOURCES", &source.name, problem));
            }
        }
    }
    Ok(SourceConfig {
        honeycombs,
        certified: distinct(&raw.honeycomb_certificates),
        honeycomb_nodes: distinct(&raw.honeycomb_nodes),
        peers: distinct(&raw.peers),
        ipfs_gateways: distinct(&raw.ipfs_gateways),
        peers_max: raw.peers_max,
        discovery_interval: raw.discovery_interval_ms,
        document_bytes_max: raw.document_bytes_max,
    })
}

fn listeners(raw: &AccessArguments) -> Result<ListenerConfig, ConfigError> {
    let all = [
        ("PUBLIC_LISTEN", raw.public_listen),
        ("INGEST_LISTEN", raw.ingest_listen),
        ("ADMIN_LISTEN", raw.admin_listen),
        ("METRICS_LISTEN", raw.metrics_listen),
    ];
    for (at, (name, address)) in all.iter().enumerate() {
        for (other_name, other) in all.iter().take(at) {
            if overlap(*address, *other) {
                let problem =
                    format!("overlaps {other_name} ({other}); give each listener a port of its own");
                return Err(wrong(name, address, problem));
            }
        }
    }
    Ok(ListenerConfig {
        public: raw.public_listen,
        ingest: raw.ingest_listen,
        admin: raw.admin_listen,
        metrics: raw.metrics_listen,
    })
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

fn access(
    raw: &AccessArguments,
    sources: &SourceConfig,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<AccessConfig, ConfigError> {
    let mut api_keys: Vec<Secret> = raw.api_key.iter().cloned().collect();
    if let Some(path) = &raw.api_keys_file {
        let listed = lines("API_KEYS_FILE", path, read, secret)?;
        // An empty list would silently leave mutating calls to loopback.
        if listed.is_empty() {
            return Err(wrong(
                "API_KEYS_FILE",
                path.display(),
                "holds no key; write one a line or unset the variable",
            ));
        }
        api_keys.extend(listed);
    }
    let mut tokens: Vec<Secret> = raw.admin_token.iter().cloned().collect();
    if let Some(path) = &raw.admin_token_file {
        tokens.extend(lines("ADMIN_TOKEN_FILE", path, read, secret)?);
        if tokens.len() != 1 {
            let problem = "there must be one admin token: in this file alone, or in ADMIN_TOKEN alone";
            return Err(wrong("ADMIN_TOKEN_FILE", path.display(), problem));
        }
    }
    let admin_token = tokens.pop();
    if admin_token.is_none() && !raw.admin_listen.ip().is_loopback() {
        return Err(wrong(
            "ADMIN_LISTEN",
            raw.admin_listen,
            "an admin API beyond loopback needs a token; set ADMIN_TOKEN_FILE or listen on 127.0.0.1",
        ));
    }
    Ok(AccessConfig {
        api_keys,
        trusted_proxies: distinct(&raw.trusted_proxies),
        admin_token,
        ingest_tls: ingest_tls(raw, sources, read)?,
    })
}

fn ingest_tls(
    raw: &AccessArguments,
    sources: &SourceConfig,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Option<IngestTls>, ConfigError> {
    let certificates = ("INGEST_TLS_CERTIFICATE_FILE", &raw.ingest_tls_certificate_file);
    let key = ("INGEST_TLS_KEY_FILE", &raw.ingest_tls_key_file);
    let authorities = ("INGEST_TLS_CLIENT_CA_FILE", &raw.ingest_tls_client_ca_file);
    let needs = |(variable, file): (&str, &Option<PathBuf>), other: &str| match file {
        Some(path) => Err(wrong(variable, path.display(), format!("needs {other} too"))),
        None => Ok(()),
    };
    match (authorities.1, sources.certified.as_slice()) {
        (None, [name, ..]) => {
            let problem = format!(
                "needs the authorities of the certificates; name them in {}",
                authorities.0
            );
            return Err(wrong("HONEYCOMB_CERTIFICATES", name, problem));
        }
        (Some(_), []) => needs(authorities, "HONEYCOMB_CERTIFICATES")?,
        _ => {}
    }
    let (Some(certificates_path), Some(key_path)) = (certificates.1, key.1) else {
        needs(certificates, key.0)?;
        needs(key, certificates.0)?;
        needs(authorities, certificates.0)?;
        return Ok(None);
    };
    let text = |variable: &str, path: &Path| read(path).map_err(|error| unreadable(variable, path, &error));
    let client_authorities = match authorities.1 {
        Some(path) => Some(text(authorities.0, path)?),
        None => None,
    };
    let files = TlsFiles {
        certificates: &text(certificates.0, certificates_path)?,
        key: &text(key.0, key_path)?,
        client_authorities: client_authorities.as_deref(),
    };
    IngestTls::new(files).map(Some).map_err(|error| {
        let (variable, path) = match error.file {
            TlsFile::Certificates => certificates,
            TlsFile::Key => key,
            TlsFile::ClientAuthorities => authorities,
        };
        let path = path.as_deref().unwrap_or(Path::new(""));
        wrong(variable, path.display(), error.to_string())
    })
}

pub(super) fn unreadable(variable: &str, path: &Path, error: &io::Error) -> ConfigError {
    let problem = format!("the file cannot be read: {error}");
    wrong(variable, path.display(), problem)
}

fn sync(raw: &SyncArguments) -> Result<SyncConfig, ConfigError> {
    let range = ("SYNC_RANGE_BLOCKS", raw.sync_range_blocks);
    let range_max = ("SYNC_RANGE_BLOCKS_MAX", raw.sync_range_blocks_max);
    let per_peer = ("SYNC_IN_FLIGHT_PER_PEER", raw.sync_in_flight_per_peer);
    let per_peer_max = ("SYNC_IN_FLIGHT_PER_PEER_MAX", raw.sync_in_flight_per_peer_max);
    at_most(("SYNC_RANGE_BLOCKS_MIN", raw.sync_range_blocks_min), range)?;
    at_most(range, range_max)?;
    at_most(range_max, ("SYNC_BUFFER_BLOCKS", raw.sync_buffer_blocks))?;
    at_most(per_peer, per_peer_max)?;
    at_most(per_peer_max, ("SYNC_IN_FLIGHT_MAX", raw.sync_in_flight_max))?;
    at_most(
        ("SYNC_BACKOFF_MS", raw.sync_backoff_ms.as_millis()),
        ("SYNC_BACKOFF_MAX_MS", raw.sync_backoff_max_ms.as_millis()),
    )?;
    at_most(
        ("SYNC_TIMEOUT_MIN_MS", raw.sync_timeout_min_ms.as_millis()),
        ("SYNC_TIMEOUT_MAX_MS", raw.sync_timeout_max_ms.as_millis()),
    )?;
    at_most(
        ("SYNC_BAN_MS", raw.sync_ban_ms.as_millis()),
        ("SYNC_BAN_MAX_MS", raw.sync_ban_max_ms.as_millis()),
    )?;
    Ok(SyncConfig {
        enabled: raw.sync_enabled,
        interval: raw.sync_interval,
        range_blocks: raw.sync_range_blocks,
        range_blocks_min: raw.sync_range_blocks_min,
        range_blocks_max: raw.sync_range_blocks_max,
        range_bytes: raw.sync_range_bytes,
        in_flight_per_peer: raw.sync_in_flight_per_peer,
        in_flight_per_peer_max: raw.sync_in_flight_per_peer_max,
        in_flight_max: raw.sync_in_flight_max,
        buffer_bytes: raw.sync_buffer_bytes,
        buffer_blocks: raw.sync_buffer_blocks,
        hedge_after: raw.sync_hedge_after_ms,
        hedge_percent: raw.sync_hedge_percent,
        backoff: raw.sync_backoff_ms,
        backoff_max: raw.sync_backoff_max_ms,
        quarantine_peers: raw.sync_quarantine_peers,
        quarantine: raw.sync_quarantine_ms,
        timeout: TimeoutSettings {
            shortest: raw.sync_timeout_min_ms,
            longest: raw.sync_timeout_max_ms,
            slowest_bytes_per_second: raw.sync_timeout_bytes_per_second,
        },
        circuit: CircuitSettings {
            opens_after_faults: raw.sync_circuit_faults,
            open_for: raw.sync_circuit_open_ms,
        },
        ban: BanSettings {
            first: raw.sync_ban_ms,
            longest: raw.sync_ban_max_ms,
        },
    })
}

/// The values of a file, one a line; `#` starts a comment line. A bad line is named by its number alone, since
/// it may hold a secret.
fn lines<T>(
    variable: &str,
    path: &Path,
    read: &dyn Fn(&Path) -> io::Result<String>,
    parse: impl Fn(&str) -> Result<T, Refused>,
) -> Result<Vec<T>, ConfigError> {
    let text = read(path).map_err(|error| unreadable(variable, path, &error))?;
    let content = |line| {
        if str::trim_start(line).starts_with('#') {
            ""
        } else {
            line
        }
    };
    entries(text.lines().map(content), parse).map_err(|(at, refused)| {
        let problem = format!("line {at} is not allowed; allowed: {refused}");
        wrong(variable, path.display(), problem)
    })
}

pub(super) fn distinct<T: Clone + PartialEq>(values: &[T]) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(value) {
            kept.push(value.clone());
        }
    }
    kept
}

pub(super) fn at_most<T: Copy + PartialOrd + Display>(
    low: (&str, T),
    high: (&str, T),
) -> Result<(), ConfigError> {
    if low.1 <= high.1 {
        Ok(())
    } else {
        Err(wrong(
            low.0,
            low.1,
            format!("must be at most {} ({})", high.0, high.1),
        ))
    }
}

fn below<T: Copy + PartialOrd + Display>(low: (&str, T), high: (&str, T)) -> Result<(), ConfigError> {
    if low.1 < high.1 {
        Ok(())
    } else {
        Err(wrong(
            low.0,
            low.1,
            format!("must be below {} ({})", high.0, high.1),
        ))
    }
}

pub(super) fn wrong(variable: &str, value: impl Display, problem: impl Into<String>) -> ConfigError {
    ConfigError {
        variable: variable.to_owned(),
        value: ShownValue::of(value),
        problem: problem.into(),
    }
}
