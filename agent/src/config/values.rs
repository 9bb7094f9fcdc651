//! What the text of one setting may be, and the strict type it becomes.
//!
//! Every parser refuses with a [`Refused`] that says what is allowed instead. `docs/configuration.md` takes
//! its "allowed" column from the same text.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use honeygraph_chain::peer::PeerId;
use honeygraph_chain::{BlockNumber, ContentId};
use ipnet::IpNet;

use super::secret::Secret;
use crate::dgraph::client::EndpointUrl;
use crate::ingest::SourceId;
use crate::peers::PeerUrl;
use crate::wire::NetworkName;

/// Longest list in one setting.
const MAX_LIST_ENTRIES: usize = 4_096;

/// A setting that may be left out or empty. An alias, because clap gives `Option` a meaning of its own.
pub type Maybe<T> = Option<T>;

/// A comma-separated setting. An alias, because clap gives `Vec` a meaning of its own.
pub type List<T> = Vec<T>;

/// Text that a setting does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What it takes.
    pub allowed: String,
    /// Which part of the text is wrong, where it has parts.
    pub part: Option<String>,
}

impl Refused {
    fn new(allowed: impl Into<String>) -> Self {
        Self {
            allowed: allowed.into(),
            part: None,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.allowed)?;
        match &self.part {
            Some(part) => write!(formatter, " ({part} is not)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

/// Reads the name of a network.
pub(crate) fn network_name(text: &str) -> Result<NetworkName, Refused> {
    text.parse()
        .map_err(|_| Refused::new("1 to 32 of a-z, A-Z, 0-9, `-` and `_`, such as spkcc or dlux"))
}

/// A honeycomb on another machine that may push blocks to us. One on this machine needs no token and is
/// [`SourceId::loopback`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What we call it.
    pub name: SourceId,
    /// What it proves itself with.
    pub token: Secret,
}

impl FromStr for Source {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let parsed = text.split_once('=').and_then(|(name, token)| {
            Some(Self {
                name: name.parse().ok()?,
                token: token.parse().ok()?,
            })
        });
        match parsed {
            Some(source) if source.name != SourceId::loopback() => Ok(source),
            _ => Err(Refused::new(format!(
                "`name=token`: {}, not `loopback`; a token of {}",
                SourceId::ALLOWED,
                Secret::ALLOWED
            ))),
        }
    }
}

/// Reads the name of a source that proves itself by a certificate.
pub(super) fn certified(text: &str) -> Result<SourceId, Refused> {
    text.parse()
        .ok()
        .filter(|name| *name != SourceId::loopback())
        .ok_or_else(|| Refused::new(format!("{}, not `loopback`", SourceId::ALLOWED)))
}

/// A network of proxies, or the address of one.
pub(super) fn proxy(text: &str) -> Result<IpNet, Refused> {
    text.parse()
        .or_else(|_| text.parse().map(|address: IpAddr| IpNet::from(address)))
        .map_err(|_| Refused::new("an address or a network of addresses, such as 10.0.0.0/8 or fd00::/8"))
}

/// Who a voter is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VoterName {
    /// A honeycomb source of `HONEYCOMB_SOURCES` or `HONEYCOMB_CERTIFICATES`, or `loopback`.
    Source(SourceId),
    /// A peer of `PEERS`.
    Peer(PeerUrl),
}

impl fmt::Display for VoterName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(name) => name.fmt(formatter),
            Self::Peer(url) => url.fmt(formatter),
        }
    }
}

/// An operator whose anchors count (`docs/protocol.md`, section 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Who it is.
    pub name: VoterName,
    /// How much its vote counts.
    pub weight: NonZeroU32,
}

impl Voter {
    /// Heaviest vote.
    const MAX_WEIGHT: u32 = 1_000_000;
}

impl FromStr for Voter {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let refused = || {
            Refused::new(format!(
                "a name of HONEYCOMB_SOURCES or HONEYCOMB_CERTIFICATES, `loopback` or an address of PEERS, with \
                 `=weight` behind it where the weight is not 1 (at most {})",
                Self::MAX_WEIGHT
            ))
        };
        let (name, weight) = match text.rsplit_once('=') {
            Some((name, weight)) => (name, weight.parse().map_err(|_| refused())?),
            None => (text, NonZeroU32::MIN),
        };
        let name = if name.contains("://") {
            VoterName::Peer(peer_url(name).map_err(|_| refused())?)
        } else {
            VoterName::Source(name.parse().map_err(|_| refused())?)
        };
        if weight.get() > Self::MAX_WEIGHT {
            return Err(refused());
        }
        Ok(Self { name, weight })
    }
}

/// A checkpoint that the person who runs the node vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedCheckpoint {
    /// The block it covers the state of.
    pub block: BlockNumber,
    /// Content id of its document.
    pub content_id: ContentId,
}

impl FromStr for TrustedCheckpoint {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        text.split_once(':')
            .and_then(|(block, content_id)| {
                Some(Self {
                    block: block.parse().ok()?,
                    content_id: content_id.parse().ok()?,
                })
            })
            .ok_or_else(|| Refused::new("`block:contentId`, such as 28559201:Qm..."))
    }
}

impl fmt::Display for TrustedCheckpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.block, self.content_id)
    }
}

/// How blocks of older peers, whose hashes no one can recompute, are treated (`docs/protocol.md`, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Verification {
    /// Taken only where a verified checkpoint covers them.
    Strict,
    /// Taken on a quorum and marked unverified.
    Quorum,
}

/// Who writes the Dgraph cluster that this node keeps in step. The node does the same in all three: the cursor in
/// the cluster decides which writer's step counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DgraphMode {
    /// There is none: the node's own store is all there is.
    Embedded,
    /// This node alone.
    Independent,
    /// Any number of nodes.
    Shared,
    /// The nodes of one region; regions sync as peers.
    Hybrid,
}

impl DgraphMode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Embedded, Self::Independent, Self::Shared, Self::Hybrid];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Independent => "independent",
            Self::Shared => "shared",
            Self::Hybrid => "hybrid",
        }
    }
}

impl fmt::Display for DgraphMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for DgraphMode {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let named = Self::ALL.into_iter().find(|mode| mode.as_str() == text);
        named.ok_or_else(|| Refused::new(Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Whether people may ask Dgraph in its own language through this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DqlAccess {
    /// No.
    Off,
    /// Holders of an API key may ask; nothing can be written.
    ReadOnly,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A filter for log lines, in the syntax of `tracing`, that was checked to parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogFilter {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let valid = (1..=1_024).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && tracing_subscriber::EnvFilter::try_new(text).is_ok();
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refused::new(
                "off, error, warn, info, debug or trace, or a filter such as info,honeygraph_agent::sync=debug",
            ))
        }
    }
}

/// A whole number of a unit.
pub(super) fn whole<T: TryFrom<u64>>(
    unit: &'static str,
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, Refused> + Clone + Send + Sync + 'static {
    move |text| {
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| Refused::new(format!("{} to {} {unit}", range.start(), range.end())))
    }
}

/// Bytes of the largest checkpoint document that is taken.
pub(crate) fn document_bytes_max(text: &str) -> Result<u64, Refused> {
    whole("bytes", 1 << 20..=64 << 30)(text)
}

/// A checkpoint that somebody vouches for; empty: none.
pub(crate) fn trusted_checkpoint(text: &str) -> Result<Maybe<TrustedCheckpoint>, Refused> {
    maybe(str::parse)(text)
}

/// A whole number of a unit, counted a second.
pub(super) fn rate(text: &str) -> Result<NonZeroU32, Refused> {
    whole("requests a second", 1..=1_000_000)(text)
        .and_then(|number: u32| NonZeroU32::new(number).ok_or_else(|| Refused::new("1 or more")))
}

/// A time in milliseconds.
pub(super) fn milliseconds(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<Duration, Refused> + Clone + Send + Sync + 'static {
    let number = whole("milliseconds", range);
    move |text| number(text).map(Duration::from_millis)
}

/// On or off.
pub(super) fn switch(text: &str) -> Result<bool, Refused> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Refused::new("true or false")),
    }
}

/// The base address of a peer, a honeycomb node or a gateway.
pub(super) fn peer_url(text: &str) -> Result<PeerUrl, Refused> {
    text.parse().map_err(|_| Refused::new(PeerUrl::ALLOWED))
}

/// The address of an alpha.
pub(super) fn dgraph_alpha(text: &str) -> Result<EndpointUrl, Refused> {
    let refused = || Refused::new("host:port, http://host:port or https://host:port, without credentials");
    if text.contains("://") {
        text.parse().map_err(|_| refused())
    } else {
        format!("http://{text}").parse().map_err(|_| refused())
    }
}

/// The name of a user of Dgraph.
pub(super) fn dgraph_user(text: &str) -> Result<String, Refused> {
    if (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(Refused::new("1 to 128 visible ASCII characters"))
    }
}

/// An address to listen on.
pub(crate) fn listener(text: &str) -> Result<SocketAddr, Refused> {
    text.parse()
        .map_err(|_| Refused::new("an IP address and a port, such as 0.0.0.0:3030 or [::]:3030"))
}

/// A file or folder.
pub(super) fn path(text: &str) -> Result<PathBuf, Refused> {
    if text.is_empty() || text.chars().any(char::is_control) {
        Err(Refused::new("a path"))
    } else {
        Ok(PathBuf::from(text))
    }
}

/// A key or token.
pub(super) fn secret(text: &str) -> Result<Secret, Refused> {
    text.parse().map_err(|_| Refused::new(Secret::ALLOWED))
}

/// A content id.
pub(super) fn content_id(text: &str) -> Result<ContentId, Refused> {
    text.parse()
        .map_err(|_| Refused::new("a content id (Qm..., 46 characters)"))
}

/// The name of a peer.
pub(super) fn peer_id(text: &str) -> Result<PeerId, Refused> {
    text.parse()
        .map_err(|_| Refused::new("1 to 128 visible ASCII characters"))
}

/// A value that may be left empty.
pub(super) fn maybe<T>(
    parse: impl Fn(&str) -> Result<T, Refused> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<Maybe<T>, Refused> + Clone + Send + Sync + 'static {
    move |text| {
        if text.is_empty() {
            Ok(None)
        } else {
            parse(text).map(Some)
        }
    }
}

/// Values between commas; spaces around them and empty ones do not matter.
pub(super) fn list<T>(
    parse: impl Fn(&str) -> Result<T, Refused> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<List<T>, Refused> + Clone + Send + Sync + 'static {
    move |text| {
        entries(text.split(','), &parse).map_err(|(at, refused)| Refused {
            allowed: format!("a comma-separated list, each {}", refused.allowed),
            part: Some(format!("entry {at}")),
        })
    }
}

/// Parses entries; of a bad one, its place counted from 1.
pub(super) fn entries<'text, T>(
    texts: impl Iterator<Item = &'text str>,
    parse: impl Fn(&str) -> Result<T, Refused>,
) -> Result<Vec<T>, (usize, Refused)> {
    let mut values = Vec::new();
    for (at, text) in texts.map(str::trim).enumerate() {
        if text.is_empty() {
            continue;
        }
        if values.len() == MAX_LIST_ENTRIES {
            let many = Refused::new(format!("one of at most {MAX_LIST_ENTRIES}"));
            return Err((at + 1, many));
        }
        values.push(parse(text).map_err(|refused| (at + 1, refused))?);
    }
    Ok(values)
}
