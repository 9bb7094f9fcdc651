//! What a node thinks of peers, which outlives them: a peer that is forgotten takes no ban with it.

use std::collections::BTreeMap;
use std::time::Duration;

use honeygraph_chain::peer::{PeerId, PeerScore};

use super::PeerUrl;
use super::registry::PeerRegistry;
use super::source::PeerSource;
use crate::store::PeerRecord;

/// Addresses without a peer whose bans are remembered at most. Those that are banned shortest go first.
const BANS_MAX: usize = 4_096;

/// Scores by peer, and those of addresses that are no peers any more but were banned lately.
#[derive(Debug, Clone, Default)]
pub struct PeerScores {
    scores: BTreeMap<PeerId, Scored>,
}

#[derive(Debug, Clone)]
struct Scored {
    url: PeerUrl,
    score: PeerScore,
}

impl PeerScores {
    /// What is thought of a peer; that of a stranger where nothing is known.
    pub fn get(&self, key: &PeerId) -> PeerScore {
        self.scores
            .get(key)
            .map(|scored| scored.score.clone())
            .unwrap_or_default()
    }

    /// Takes what the planner thinks of a peer now. True where a ban is news.
    pub fn note(&mut self, key: &PeerId, url: &PeerUrl, score: &PeerScore) -> bool {
        if let Some(known) = self.scores.get_mut(key) {
            let is_news = known.score.bans_differ(score);
            known.score = score.clone();
            return is_news;
        }
        let scored = Scored {
            url: url.clone(),
            score: score.clone(),
        };
        self.scores.insert(key.clone(), scored);
        score.bans_differ(&PeerScore::new())
    }

    /// Forgets who is neither a peer nor was banned lately.
    pub fn tidy(&mut self, registry: &PeerRegistry, now: Duration) {
        let mut strangers: Vec<(Duration, PeerId)> = Vec::new();
        self.scores.retain(|key, scored| {
            if registry.get(key).is_some() {
                return true;
            }
            let remembered = scored.score.ban_remembered_until(now);
            strangers.extend(remembered.map(|until| (until, key.clone())));
            remembered.is_some()
        });
        strangers.sort();
        let too_many = strangers.len().saturating_sub(BANS_MAX);
        for (_, key) in strangers.into_iter().take(too_many) {
            self.scores.remove(&key);
        }
    }

    /// What is kept across restarts, by URL.
    pub fn records(&self, registry: &PeerRegistry) -> Vec<(String, PeerRecord)> {
        let stored = |score: Option<&Scored>| {
            score
                .and_then(|scored| serde_json::to_value(&scored.score).ok())
                .unwrap_or_default()
        };
        let peers = registry.iter().map(|(key, peer)| {
            let record = PeerRecord {
                peer_id: peer.claimed.as_ref().map(ToString::to_string),
                source: Some(peer.source),
                score: stored(self.scores.get(key)),
                last_seen_ms: peer.last_seen_ms,
            };
            (peer.url.to_string(), record)
        });
        let strangers = self
            .scores
            .iter()
            .filter(|(key, _)| registry.get(key).is_none())
            .map(|(_, scored)| {
                let record = PeerRecord {
                    peer_id: None,
                    source: None,
                    score: stored(Some(scored)),
                    last_seen_ms: None,
                };
                (scored.url.to_string(), record)
            });
        peers.chain(strangers).collect()
    }

    /// Takes what was kept: peers into the registry, as far as there are places, and what was thought of them.
    /// What cannot be read is left out: it is found and judged anew.
    pub fn restore(records: Vec<(String, PeerRecord)>, registry: &mut PeerRegistry) -> Self {
        let mut scores = BTreeMap::new();
        for (url, record) in records {
            let Ok(url) = url.parse::<PeerUrl>() else {
                continue;
            };
            if let Ok(score) = serde_json::from_value(record.score) {
                let url = url.clone();
                scores.insert(PeerRegistry::key_of(&url), Scored { url, score });
            }
            // What configuration named before and names no more is one of many.
            let source = record.source.map(|source| match source {
                PeerSource::Configured => PeerSource::Discovered,
                source => source,
            });
            if let Some(source) = source {
                let claimed = record.peer_id.and_then(|id| PeerId::try_from(id).ok());
                let _ = registry.restore(url, claimed, source, record.last_seen_ms);
            }
        }
        Self { scores }
    }
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::peer::{BanSettings, PeerFault, Standing};

    use super::*;

    const NOW: Duration = Duration::from_hours(500_000);

    fn url(text: &str) -> PeerUrl {
        text.parse().unwrap()
    }

    fn registry(peers_max: usize) -> PeerRegistry {
        PeerRegistry::new("self".parse().unwrap(), None, peers_max)
    }

    fn liar() -> PeerScore {
        let mut score = PeerScore::new();
        score.record_fault(PeerFault::WrongHash, NOW, &BanSettings::default());
        score
    }

    fn is_banned(scores: &PeerScores, key: &PeerId, now: Duration) -> bool {
        matches!(scores.get(key).standing(now), Standing::Banned { .. })
    }

    /// A registry with one discovered peer that is banned.
    fn with_banned(address: &PeerUrl) -> (PeerRegistry, PeerScores, PeerId) {
        let (mut registry, mut scores) = (registry(2), PeerScores::default());
        let key = registry
            .add(address.clone(), None, PeerSource::Discovered)
            .unwrap();
        assert!(scores.note(&key, address, &liar()));
        assert!(!scores.note(&key, address, &liar()));
        (registry, scores, key)
    }

    #[test]
    fn a_ban_outlives_a_peer_that_gave_up_its_place_and_is_discovered_again() {
        let address = url("http://liar.example");
        let (mut registry, mut scores, key) = with_banned(&address);
        registry.on_silence(&key);
        for at in 0..2 {
            let better = url(&format!("http://better{at}.example"));
            registry.add(better, None, PeerSource::Registered).unwrap();
        }
        assert!(registry.get(&key).is_none());
        scores.tidy(&registry, NOW);
        assert!(is_banned(&scores, &key, NOW));
    }

    #[test]
    fn a_ban_outlives_a_restart_with_and_without_its_peer() {
        let address = url("http://liar.example");
        let (mut known, scores, key) = with_banned(&address);
        for _ in 0..2 {
            let mut again = registry(2);
            let restored = PeerScores::restore(scores.records(&known), &mut again);
            assert_eq!(again.get(&key).is_some(), known.get(&key).is_some());
            assert!(is_banned(&restored, &key, NOW));
            while !known.on_silence(&key) && known.get(&key).is_some() {}
        }
        assert!(known.is_empty());
    }

    #[test]
    fn a_ban_is_remembered_a_day_and_the_memory_is_bounded() {
        let nobody = registry(2);
        let mut scores = PeerScores::default();
        for at in 0..BANS_MAX + 10 {
            let address = url(&format!("http://liar{at}.example"));
            scores.note(&PeerRegistry::key_of(&address), &address, &liar());
        }
        let clean = url("http://clean.example");
        scores.note(&PeerRegistry::key_of(&clean), &clean, &PeerScore::new());
        scores.tidy(&nobody, NOW);
        assert_eq!(scores.scores.len(), BANS_MAX);
        scores.tidy(&nobody, NOW + Duration::from_hours(24));
        assert_eq!(scores.scores.len(), BANS_MAX);
        scores.tidy(&nobody, NOW + Duration::from_hours(26));
        assert!(scores.scores.is_empty());
    }

    #[test]
    fn where_a_peer_came_from_outlives_a_restart() {
        let mut before = registry(8);
        for (name, source) in [
            ("a", PeerSource::Discovered),
            ("b", PeerSource::Honeycomb),
            ("c", PeerSource::Registered),
            ("d", PeerSource::Configured),
        ] {
            let address = url(&format!("http://{name}.example"));
            before.add(address, None, source).unwrap();
        }
        let mut after = registry(8);
        PeerScores::restore(PeerScores::default().records(&before), &mut after);
        let sources: Vec<_> = after.iter().map(|(_, peer)| peer.source).collect();
        assert_eq!(
            sources,
            [
                PeerSource::Discovered,
                PeerSource::Honeycomb,
                PeerSource::Registered,
                // Configuration names it no more.
                PeerSource::Discovered,
            ]
        );
    }
}
