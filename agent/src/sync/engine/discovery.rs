//! Which peers there are, and what they say of themselves.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use honeygraph_chain::peer::{PeerId, Standing};
use honeygraph_chain::planner::{Event, FetchKind, PeerProfile};
use honeygraph_chain::{BlockNumber, BlockRange};
use tokio::sync::oneshot;

use super::unix_now;
use super::{Done, SyncEngine, unix_now_ms};
use crate::config::Verification;
use crate::peers::client::PeerList;
use crate::peers::{FetchError, PeerSource, PeerUrl};
use crate::sync::handle::PeerSummary;
use crate::wire::shapes::Capabilities;

/// Peers whose lists are asked for in one round.
const LISTS_ASKED: usize = 8;
/// Calls to peers that ask what they have, at once.
const PROBES_MAX: usize = 64;

/// What a peer said of itself, or that it said nothing.
#[derive(Debug)]
pub(super) struct Said {
    peer: PeerId,
    answer: Result<(Option<Box<Capabilities>>, Option<BlockNumber>), FetchError>,
}

/// When each peer was last asked for its list.
#[derive(Debug, Default)]
pub(super) struct ListsAsked(BTreeMap<PeerId, Instant>);

impl ListsAsked {
    /// Of some peers those to ask now: a few, those first that were not asked for longest.
    fn next<T>(&mut self, peers: impl IntoIterator<Item = (PeerId, T)>, now: Instant) -> Vec<T> {
        let mut peers: Vec<_> = peers
            .into_iter()
            .map(|(key, peer)| (self.0.get(&key).copied(), key, peer))
            .collect();
        peers.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        peers.truncate(LISTS_ASKED);
        peers
            .into_iter()
            .map(|(_, key, peer)| {
                self.0.insert(key, now);
                peer
            })
            .collect()
    }

    /// Forgets peers that are gone.
    pub(super) fn retain(&mut self, is_known: impl Fn(&PeerId) -> bool) {
        self.0.retain(|peer, _| is_known(peer));
    }
}

/// A list of peers that somebody gave.
#[derive(Debug)]
pub(super) struct Heard {
    from: PeerUrl,
    /// What makes of a peer on it one that is known.
    source: PeerSource,
    list: Result<PeerList, FetchError>,
    waiting: Option<Waiting>,
}

/// Who waits for several lists, held by each that is still to come.
pub(super) type Waiting = Arc<oneshot::Sender<usize>>;

impl SyncEngine {
    /// Asks every peer what it has.
    pub(super) fn probe_peers(&mut self) {
        let mut asked: Vec<_> = self
            .registry
            .iter()
            .filter(|(key, _)| !self.probing.contains(*key))
            .map(|(key, peer)| {
                (
                    Reverse(peer.source),
                    self.probed.get(key),
                    key.clone(),
                    peer.url.clone(),
                )
            })
            .collect();
        // Configured ones first, then those that were not asked for longest.
        asked.sort();
        asked.truncate(PROBES_MAX.saturating_sub(self.probing.len()));
        let asked: Vec<_> = asked.into_iter().map(|(_, _, key, url)| (key, url)).collect();
        for (peer, url) in asked {
            self.probe(peer, url);
        }
    }

    fn probe(&mut self, peer: PeerId, url: PeerUrl) {
        if !self.probing.insert(peer.clone()) {
            return;
        }
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let answer = match client.capabilities(&url).await {
                Ok(Some(said)) => {
                    let head = said.head;
                    Ok((Some(Box::new(said)), head))
                }
                // An older peer: its head is all there is to ask.
                Ok(None) => client.head(&url).await.map(|answer| (None, Some(answer.head))),
                Err(error) => Err(error),
            };
            Done::Said(Said { peer, answer })
        });
    }

    pub(super) fn on_said(&mut self, said: Said) {
        let Said { peer, answer } = said;
        self.probing.remove(&peer);
        self.probed.insert(peer.clone(), Instant::now());
        match answer {
            Ok((capabilities, head)) => {
                let was_alive = self.registry.get(&peer).is_some_and(|known| known.is_alive);
                let network = self.settings.network.clone();
                if !self
                    .registry
                    .on_answer(&peer, &network, capabilities.as_deref(), head, unix_now_ms())
                {
                    self.step(Event::PeerRemoved { peer });
                    return;
                }
                let Some(profile) = self.registry.get(&peer).and_then(|known| known.profile) else {
                    return;
                };
                let score = self.scores.get(&peer);
                if !was_alive {
                    tracing::info!(%peer, ?profile, "peer answers");
                }
                let profile = self.provable(profile);
                self.step(Event::PeerSeen {
                    peer: peer.clone(),
                    profile,
                    score,
                });
                if !was_alive {
                    self.ask_voters();
                }
                self.look_at_forks_of(&peer);
                self.on_status();
            }
            Err(error) => {
                let was_alive = self.registry.get(&peer).is_some_and(|known| known.is_alive);
                if was_alive {
                    tracing::info!(%peer, %error, "peer does not answer");
                    self.forget_stand_of(&peer);
                }
                if self.registry.on_silence(&peer) {
                    self.step(Event::PeerRemoved { peer });
                }
            }
        }
    }

    /// What a peer is to be asked for. Blocks without hashes are of use only at the front, and, unless a quorum
    /// may vouch for them, up to the newest checkpoint that somebody trusted reports: asking for others would
    /// keep them from being fetched from peers whose blocks can be proven.
    fn provable(&self, profile: PeerProfile) -> PeerProfile {
        if profile.kind == FetchKind::Batch {
            return profile;
        }
        let status = Arc::clone(&self.status.borrow());
        let height = status.position.as_ref().map(|position| position.state_height);
        let provable = match self.settings.verification {
            Verification::Strict => status.newest_reported.map(|(checkpoint, _)| checkpoint),
            Verification::Quorum => Some(BlockNumber::MAX),
        };
        let useful = height
            .zip(provable)
            .and_then(|(height, end)| BlockRange::new(height.next(), end).ok());
        let available = profile
            .available
            .and_then(|available| available.intersection(useful?));
        PeerProfile { available, ..profile }
    }

    /// Looks for peers: at the honeycomb nodes, and in the lists of peers. Exchange is by pull.
    pub(super) fn discover(&mut self, waiting: Option<&Waiting>) {
        let honeycombs = self.settings.honeycomb_nodes.clone();
        self.ask_honeycombs(honeycombs, PeerSource::Honeycomb, waiting);
        let now = unix_now();
        let is_banned = |key: &PeerId| matches!(self.scores.get(key).standing(now), Standing::Banned { .. });
        let alive = self
            .registry
            .iter()
            .filter(|(key, peer)| peer.is_alive && !is_banned(key))
            .map(|(key, peer)| (key.clone(), peer.url.clone()));
        for url in self.lists_asked.next(alive, Instant::now()) {
            let (client, waiting) = (self.client.clone(), waiting.cloned());
            self.tasks.spawn(async move {
                let list = client.peers(&url).await;
                let source = PeerSource::Discovered;
                Done::Heard(Heard {
                    from: url,
                    source,
                    list,
                    waiting,
                })
            });
        }
    }

    /// Asks honeycomb nodes for the honeygraph nodes that they know.
    pub(super) fn ask_honeycombs(
        &mut self,
        nodes: impl IntoIterator<Item = PeerUrl>,
        source: PeerSource,
        waiting: Option<&Waiting>,
    ) {
        for url in nodes {
            let (client, waiting) = (self.client.clone(), waiting.cloned());
            self.tasks.spawn(async move {
                let list = client.honeygraph_peers(&url).await;
                Done::Heard(Heard {
                    from: url,
                    source,
                    list,
                    waiting,
                })
            });
        }
    }

    pub(super) fn on_heard(&mut self, mut heard: Heard) {
        let waiting = heard.waiting.take();
        self.take_list(heard);
        if let Some(waiting) = waiting {
            self.tell_peers(waiting);
        }
    }

    /// Says how many peers are known, where no list is to come any more for the one who waits.
    pub(super) fn tell_peers(&self, waiting: Waiting) {
        if let Some(reply) = Arc::into_inner(waiting) {
            let _ = reply.send(self.registry.len());
        }
    }

    fn take_list(&mut self, heard: Heard) {
        let list = match heard.list {
            Ok(list) => list,
            Err(error) => {
                tracing::debug!(from = %heard.from, %error, "no list of peers");
                return;
            }
        };
        let mut refused = list.refused();
        let mut added = 0;
        for peer in list.peers {
            if self.client.may_reach(&peer.url).is_err() {
                refused += 1;
                continue;
            }
            let id = Some(peer.id);
            added += usize::from(self.registry.add(peer.url, id, heard.source).is_ok());
        }
        if added > 0 {
            // They are asked at once, but no more than `PROBES_MAX` together.
            self.next_probe = Instant::now();
        }
        if added > 0 || refused > 0 {
            tracing::info!(from = %heard.from, added, refused, sent = list.sent, "list of peers");
        }
    }

    pub(super) fn summaries(&self) -> Vec<PeerSummary> {
        let now = unix_now();
        let views: BTreeMap<_, _> = self
            .planner
            .peers(now)
            .map(|view| (view.id.clone(), view))
            .collect();
        self.registry
            .iter()
            .map(|(key, peer)| {
                let view = views.get(key);
                let stored = self.scores.get(key);
                let score = view.map_or(&stored, |view| view.score);
                PeerSummary {
                    id: peer.name(key),
                    url: peer.url.clone(),
                    source: peer.source,
                    is_alive: peer.is_alive,
                    score: score.value(now),
                    reliability: score.reliability(),
                    standing: score.standing(now),
                    circuit: view.map_or(honeygraph_chain::peer::CircuitState::Closed, |view| view.circuit),
                    last_seen_ms: peer.last_seen_ms,
                    available: peer.profile.and_then(|profile| profile.available),
                    in_flight: view.map_or(0, |view| view.in_flight),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_is_asked_for_its_list_in_turn() {
        let mut asked = ListsAsked::default();
        let peers = 3 * LISTS_ASKED - 1;
        let everybody = || {
            (0..peers).map(|at| {
                let key: PeerId = format!("peer-{at}").parse().unwrap();
                (key, at)
            })
        };
        let start = Instant::now();
        let mut times = vec![0; peers];
        for round in 0..6 {
            let now = start + std::time::Duration::from_secs(round);
            let chosen = asked.next(everybody(), now);
            assert_eq!(chosen.len(), LISTS_ASKED);
            for at in chosen {
                times[at] += 1;
            }
        }
        assert!(times.iter().all(|times| (2..=3).contains(times)), "{times:?}");
        asked.retain(|_| false);
        assert!(asked.0.is_empty());
    }
}
