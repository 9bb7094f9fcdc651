//! The peers a node knows: who they are, where they came from, whether they answer.
//!
//! A peer is told apart by its URL. What it calls itself is its own word until identities are proven, so
//! nothing hangs on it.

use std::collections::BTreeMap;

use honeygraph_chain::peer::PeerId;
use honeygraph_chain::planner::{FetchKind, PeerProfile};
use honeygraph_chain::quorum::VoterId;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::{PeerSource, PeerUrl};
use crate::wire::NetworkName;
use crate::wire::shapes::Capabilities;

/// One peer.
#[derive(Debug, Clone)]
pub struct KnownPeer {
    /// Its base URL.
    pub url: PeerUrl,
    /// What it calls itself.
    pub claimed: Option<PeerId>,
    /// How we came to know it.
    pub source: PeerSource,
    /// The voter it is, if configuration makes it one.
    pub voter: Option<VoterId>,
    /// Whether it has answered its last call.
    pub is_alive: bool,
    /// When it last answered, milliseconds since the Unix epoch.
    pub last_seen_ms: Option<u64>,
    /// What it says it can serve, since it last said so.
    pub profile: Option<PeerProfile>,
    /// Last irreversible block, as it says.
    pub irreversible: Option<BlockNumber>,
    /// Calls in a row that it did not answer.
    pub silent_calls: u32,
}

impl KnownPeer {
    /// What the peer is called for people: its own word, else its URL.
    pub fn name(&self, key: &PeerId) -> PeerId {
        self.claimed.clone().unwrap_or_else(|| key.clone())
    }

    /// The highest block it says it has.
    pub fn head(&self) -> Option<BlockNumber> {
        self.profile
            .and_then(|profile| profile.available)
            .map(BlockRange::end)
    }
}

/// A peer that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdded {
    /// It is known already.
    Known,
    /// It is ourselves.
    Itself,
    /// There are as many of its source as may be.
    Full,
}

/// The peers a node knows.
#[derive(Debug)]
pub struct PeerRegistry {
    peers: BTreeMap<PeerId, KnownPeer>,
    peers_max: usize,
    own_id: PeerId,
    own_url: Option<PeerUrl>,
}

/// Calls in a row after which a peer that is on lists alone is forgotten, and a registered one gives its place to
/// another one.
const SILENT_CALLS_MAX: u32 = 20;

impl PeerRegistry {
    /// An empty registry of a node, with so many places for peers that configuration does not name.
    pub fn new(own_id: PeerId, own_url: Option<PeerUrl>, peers_max: usize) -> Self {
        Self {
            peers: BTreeMap::new(),
            peers_max,
            own_id,
            own_url,
        }
    }

    /// What tells a peer apart: its URL, or where that is too long the URL's content id.
    pub fn key_of(url: &PeerUrl) -> PeerId {
        let text = url.to_string();
        PeerId::try_from(text.clone()).unwrap_or_else(|_| ContentId::of(text.as_bytes()).into())
    }

    /// Takes a peer.
    pub fn add(
        &mut self,
        url: PeerUrl,
        claimed: Option<PeerId>,
        source: PeerSource,
    ) -> Result<PeerId, NotAdded> {
        if self.own_url.as_ref() == Some(&url) || claimed.as_ref() == Some(&self.own_id) {
            return Err(NotAdded::Itself);
        }
        let key = Self::key_of(&url);
        if let Some(known) = self.peers.get_mut(&key) {
            known.source = known.source.max(source);
            if known.source < PeerSource::Configured {
                // What configuration names is only renamed by itself.
                known.claimed = claimed.or_else(|| known.claimed.take());
            }
            return Err(NotAdded::Known);
        }
        if !self.has_place(source) && !self.make_room(source) {
            return Err(NotAdded::Full);
        }
        let peer = KnownPeer {
            url,
            claimed,
            source,
            voter: None,
            is_alive: false,
            last_seen_ms: None,
            profile: None,
            irreversible: None,
            silent_calls: 0,
        };
        self.peers.insert(key.clone(), peer);
        Ok(key)
    }

    /// Takes a peer from before a restart.
    pub(super) fn restore(
        &mut self,
        url: PeerUrl,
        claimed: Option<PeerId>,
        source: PeerSource,
        last_seen_ms: Option<u64>,
    ) -> Result<(), NotAdded> {
        let key = self.add(url, claimed, source)?;
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.last_seen_ms = last_seen_ms;
        }
        Ok(())
    }

    fn has_place(&self, source: PeerSource) -> bool {
        let count = |most: PeerSource| self.peers.values().filter(|peer| peer.source <= most).count();
        source
            .places(self.peers_max)
            .is_none_or(|places| count(source) < places && count(PeerSource::Registered) < self.peers_max)
    }

    /// Gives the place of a peer that does not answer to a better one.
    fn make_room(&mut self, source: PeerSource) -> bool {
        let gives_way = |peer: &KnownPeer| match peer.source {
            PeerSource::Registered => {
                source == PeerSource::Registered && peer.silent_calls >= SILENT_CALLS_MAX
            }
            other => other < source && peer.silent_calls > 0,
        };
        let worst = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.is_alive && gives_way(peer))
            .max_by_key(|(_, peer)| peer.silent_calls)
            .map(|(key, _)| key.clone());
        worst.is_some_and(|key| self.peers.remove(&key).is_some())
    }

    /// Makes a peer a voter.
    pub fn set_voter(&mut self, key: &PeerId, voter: VoterId) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.voter = Some(voter);
        }
    }

    /// One peer.
    pub fn get(&self, key: &PeerId) -> Option<&KnownPeer> {
        self.peers.get(key)
    }

    /// All peers.
    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, &KnownPeer)> {
        self.peers.iter()
    }

    /// Number of peers.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether no peer is known.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The peers that vote.
    pub fn voters(&self) -> impl Iterator<Item = (&PeerId, &KnownPeer, &VoterId)> {
        self.peers
            .iter()
            .filter_map(|(key, peer)| Some((key, peer, peer.voter.as_ref()?)))
    }

    /// Takes what a peer said of itself. False if it is of another network, or ourselves: it is forgotten
    /// then unless configuration names it.
    pub fn on_answer(
        &mut self,
        key: &PeerId,
        network: &NetworkName,
        said: Option<&Capabilities>,
        head: Option<BlockNumber>,
        now_ms: u64,
    ) -> bool {
        let own_id = self.own_id.to_string();
        let fits = said.is_none_or(|said| said.network == *network && said.peer_id != own_id);
        let Some(peer) = self.peers.get_mut(key) else {
            return false;
        };
        if !fits {
            peer.is_alive = false;
            peer.profile = None;
            if peer.source < PeerSource::Configured {
                self.peers.remove(key);
            }
            return false;
        }
        peer.is_alive = true;
        peer.silent_calls = 0;
        peer.last_seen_ms = Some(now_ms);
        let (base, kind) = match said {
            Some(said) => (said.base, FetchKind::Batch),
            None => (head.map(|_| BlockNumber::default().next()), FetchKind::Single),
        };
        if let Some(said) = said {
            peer.claimed = PeerId::try_from(said.peer_id.clone()).ok();
            peer.irreversible = said.lib;
        }
        let available = base
            .zip(head)
            .and_then(|(base, head)| BlockRange::new(base, head).ok());
        peer.profile = Some(PeerProfile { available, kind });
        true
    }

    /// Notes that a peer did not answer. True if it is forgotten for it.
    pub fn on_silence(&mut self, key: &PeerId) -> bool {
        let Some(peer) = self.peers.get_mut(key) else {
            return false;
        };
        peer.is_alive = false;
        peer.silent_calls = peer.silent_calls.saturating_add(1);
        let forgotten = peer.source < PeerSource::Registered && peer.silent_calls >= SILENT_CALLS_MAX;
        if forgotten {
            self.peers.remove(key);
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> PeerUrl {
        text.parse().unwrap()
    }

    fn registry(peers_max: usize) -> PeerRegistry {
        PeerRegistry::new(
            "self".parse().unwrap(),
            Some(url("http://self.example:3030")),
            peers_max,
        )
    }

    #[test]
    fn a_node_does_not_know_itself() {
        let mut registry = registry(4);
        let own = registry.add(url("http://self.example:3030"), None, PeerSource::Discovered);
        assert_eq!(own, Err(NotAdded::Itself));
        let named = registry.add(
            url("http://other.example"),
            Some("self".parse().unwrap()),
            PeerSource::Registered,
        );
        assert_eq!(named, Err(NotAdded::Itself));
    }

    #[test]
    fn ten_thousand_addresses_take_no_more_than_the_limit() {
        let mut registry = registry(8);
        for at in 0..10_000 {
            let _ = registry.add(
                url(&format!("http://peer{at}.example")),
                None,
                PeerSource::Discovered,
            );
        }
        // What strangers name takes half of the places.
        assert_eq!(registry.len(), 4);
        // What configuration names always has a place, and one that is registered takes that of a dead one.
        registry
            .add(url("http://configured.example"), None, PeerSource::Configured)
            .unwrap();
        let mut add = |name: &str, source| {
            let added = registry.add(url(&format!("http://{name}.example")), None, source);
            added.err()
        };
        for name in ["honeycomb1", "honeycomb2"] {
            assert_eq!(add(name, PeerSource::Honeycomb), None);
        }
        assert_eq!(add("honeycomb3", PeerSource::Honeycomb), Some(NotAdded::Full));
        for name in ["registered1", "registered2"] {
            assert_eq!(add(name, PeerSource::Registered), None);
        }
        assert_eq!(
            registry.add(url("http://registered.example"), None, PeerSource::Registered),
            Err(NotAdded::Full)
        );
        let dead = PeerRegistry::key_of(&url("http://peer3.example"));
        registry.on_silence(&dead);
        registry
            .add(url("http://registered.example"), None, PeerSource::Registered)
            .unwrap();
        assert!(registry.get(&dead).is_none());
        // Registered ones are not forgotten, but one that is long gone is no reason to turn another one away.
        let gone = PeerRegistry::key_of(&url("http://registered1.example"));
        for _ in 0..SILENT_CALLS_MAX {
            let newest = registry.add(url("http://newest.example"), None, PeerSource::Registered);
            assert_eq!(newest, Err(NotAdded::Full));
            assert!(!registry.on_silence(&gone));
        }
        registry
            .add(url("http://newest.example"), None, PeerSource::Registered)
            .unwrap();
        assert!(registry.get(&gone).is_none());
        assert_eq!(registry.len(), 9);
    }

    #[test]
    fn a_peer_that_a_better_source_names_rises_and_never_falls() {
        let mut registry = registry(8);
        let address = url("http://a.example");
        let key = registry
            .add(address.clone(), None, PeerSource::Discovered)
            .unwrap();
        for (named, now) in [
            (PeerSource::Registered, PeerSource::Registered),
            (PeerSource::Honeycomb, PeerSource::Registered),
        ] {
            assert_eq!(registry.add(address.clone(), None, named), Err(NotAdded::Known));
            assert_eq!(registry.get(&key).unwrap().source, now);
        }
    }

    #[test]
    fn a_peer_of_another_network_is_forgotten() {
        let mut registry = registry(8);
        let key = registry
            .add(url("http://a.example"), None, PeerSource::Discovered)
            .unwrap();
        let network: NetworkName = "spkcc".parse().unwrap();
        let said = Capabilities {
            protocol: 1,
            network: "dlux".parse().unwrap(),
            peer_id: "a".to_owned(),
            version: String::new(),
            base: None,
            head: None,
            lib: None,
            batch: crate::wire::shapes::BatchLimits::default(),
            features: crate::wire::shapes::Features::default(),
        };
        assert!(!registry.on_answer(&key, &network, Some(&said), None, 1));
        assert!(registry.is_empty());
    }
}
