//! Learning what proves blocks of the past: the documents of deltas, which their ids prove whoever gives them, and
//! lists of checkpoints, which voters answer for.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use honeygraph_chain::checkpoint::PreviousRoot;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::quorum::{Agreement, VoterId, Voters};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::documents::{Delta, Giver, fetch_delta};
use super::{Done, SyncEngine};
use crate::peers::PeerSource;
use crate::peers::client::DocumentTarget;
use crate::replica::{DELTA_BYTES_MAX, ToldBlocks};
use crate::store::CheckpointRecord;
use crate::wire::shapes::{CheckpointEntry, MAX_LISTED_CHECKPOINTS};

/// Peers that are asked for checkpoints of the past at once.
const PEERS_ASKED: usize = 8;

/// What was learned.
#[derive(Debug)]
pub(super) struct Learned {
    /// Whether anything new was.
    is_news: bool,
    /// Blocks of full states, where nobody votes.
    told: ToldBlocks,
}

impl SyncEngine {
    /// Fetches the document of a delta that stored blocks or known checkpoints name.
    pub(super) fn learn_past_document(&mut self, range: BlockRange, id: ContentId) {
        if self.history.learning {
            return;
        }
        self.history.learning = true;
        let mut peers: Vec<_> = self.registry.iter().filter(|(_, peer)| peer.is_alive).collect();
        peers.sort_by_key(|(_, peer)| std::cmp::Reverse(peer.source));
        // Another one is asked first each time: one that is slow or has nothing is not waited for again and again.
        if !peers.is_empty() {
            let first = self.history.asked % peers.len();
            peers.rotate_left(first);
        }
        self.history.asked = self.history.asked.wrapping_add(1);
        let peers = peers.into_iter().take(PEERS_ASKED);
        let peers = peers.map(|(_, peer)| Giver::Peer(peer.url.clone()));
        let gateways = self.settings.ipfs_gateways.iter().cloned().map(Giver::Gateway);
        let givers: Vec<Giver> = peers.chain(gateways).collect();
        let target = DocumentTarget {
            path: self.settings.documents_directory.join(format!("past-{id}.json")),
            max_bytes: self.settings.document_bytes_max.min(DELTA_BYTES_MAX),
        };
        let (client, replica) = (self.client.clone(), self.replica.clone());
        self.tasks.spawn(async move {
            let told = ToldBlocks::new();
            let delta = fetch_delta(&client, &givers, id, &target, DELTA_BYTES_MAX).await;
            let Delta::Document(document) = delta else {
                tracing::debug!(%range, %id, "the document that proves blocks of the past cannot be had");
                return Done::Learned(Learned { is_news: false, told });
            };
            match replica.learn_past_document(id, *document).await {
                Ok(is_news) => Done::Learned(Learned { is_news, told }),
                Err(gone) => Done::Gone(gone),
            }
        });
    }

    /// Asks for checkpoints of the past: the voters where some are peers, and then only what most of them agree on
    /// is learned. Without such voters, most of a few peers tell which block a full state has: all else their lists
    /// say is proven by what links to it, or not taken.
    pub(super) fn learn_checkpoints(&mut self, around: BlockRange) {
        if self.history.learning {
            return;
        }
        let schedule = self.schedule();
        // Sources keep no list of their past: the peers among the voters decide.
        let voters: Vec<_> = self
            .registry
            .voters()
            .map(|(_, peer, voter)| (voter.clone(), peer.is_alive, peer.url.clone()))
            .collect();
        let has_voters = !voters.is_empty();
        let (asked, weights, range) = if has_voters {
            let weight =
                |voter: &VoterId| u32::try_from(self.settings.voters.weight(voter)).unwrap_or(u32::MAX);
            let weights: Vec<_> = voters
                .iter()
                .map(|(voter, ..)| (voter.clone(), weight(voter)))
                .collect();
            let asked: Vec<_> = voters
                .into_iter()
                .filter(|(_, is_alive, _)| *is_alive)
                .map(|(voter, _, url)| (voter, url))
                .collect();
            let first = schedule.last_before(around.start()).unwrap_or_default();
            let span = schedule
                .delta_interval
                .saturating_mul(MAX_LISTED_CHECKPOINTS as u64 - 1);
            (asked, Some(weights), BlockRange::starting_at(first, span))
        } else if schedule.kind_at(around.end()) == Some(CheckpointKind::State) {
            (self.strangers(), None, BlockRange::single(around.end()))
        } else {
            // It is proven once what stands above it is.
            return;
        };
        if asked.is_empty() {
            return;
        }
        self.history.learning = true;
        let (client, replica) = (self.client.clone(), self.replica.clone());
        self.tasks.spawn(async move {
            let told = join_all(asked.into_iter().map(|(voter, url)| {
                let client = &client;
                async move { Some((voter, client.checkpoints(&url, range).await.ok()?)) }
            }));
            let told: Vec<_> = told.await.into_iter().flatten().collect();
            let Some(weights) = weights else {
                let answered = told.iter().map(|(voter, _)| (voter.clone(), 1));
                let records = agreed_records(&Voters::new(answered), told);
                let blocks: ToldBlocks = records
                    .into_iter()
                    .filter_map(|record| Some((record.block_num, record.block_hash?)))
                    .collect();
                return Done::Learned(Learned {
                    is_news: !blocks.is_empty(),
                    told: blocks,
                });
            };
            let records = agreed_records(&Voters::new(weights), told);
            match replica.learn_checkpoints(records).await {
                Ok(learned) => Done::Learned(Learned {
                    is_news: learned > 0,
                    told: ToldBlocks::new(),
                }),
                Err(gone) => Done::Gone(gone),
            }
        });
    }

    /// A few peers, the configured ones where some answer.
    fn strangers(&self) -> Vec<(VoterId, crate::peers::PeerUrl)> {
        let mut alive: Vec<_> = self.registry.iter().filter(|(_, peer)| peer.is_alive).collect();
        let best = |source: PeerSource| source == PeerSource::Configured;
        if alive.iter().any(|(_, peer)| best(peer.source)) {
            alive.retain(|(_, peer)| best(peer.source));
        }
        alive.sort_by_key(|(_, peer)| std::cmp::Reverse(peer.source));
        alive
            .into_iter()
            .take(PEERS_ASKED)
            .map(|(key, peer)| (VoterId(key.to_string()), peer.url.clone()))
            .collect()
    }

    pub(super) fn on_learned(&mut self, learned: Learned) {
        let is_news = learned.is_news
            && (learned.told.is_empty()
                || learned
                    .told
                    .iter()
                    .any(|(number, hash)| self.history.told.get(number) != Some(hash)));
        self.history.told.extend(learned.told);
        self.history.on_learned(is_news);
    }
}

/// What an entry says of its checkpoint, without the digest of the state: those who did not apply the blocks
/// themselves do not know it.
type Said = (
    bool,
    ContentId,
    Option<ContentId>,
    Option<ContentId>,
    Option<ContentId>,
);

fn said(entry: &CheckpointEntry) -> Said {
    (
        entry.kind == CheckpointKind::State,
        entry.state_hash,
        entry.block_hash,
        entry.root,
        entry.prev_root,
    )
}

/// The entries that most of the voters agree on, all of what they say. One that names no block, or no full state,
/// says nothing.
fn agreed_records(voters: &Voters, told: Vec<(VoterId, Vec<CheckpointEntry>)>) -> Vec<CheckpointRecord> {
    let mut by_block: BTreeMap<BlockNumber, Vec<(VoterId, CheckpointEntry)>> = BTreeMap::new();
    for (voter, entries) in told {
        for entry in entries {
            if entry.block_hash.is_some() && entry.root.is_some() {
                let here = by_block.entry(entry.block_num).or_default();
                here.push((voter.clone(), entry));
            }
        }
    }
    let agreed = |entries: Vec<(VoterId, CheckpointEntry)>| {
        let cast = entries.iter().map(|(voter, entry)| (voter.clone(), said(entry)));
        let Agreement::Agreed { value, .. } = voters.decide(cast) else {
            let block = entries.first().map(|(_, entry)| entry.block_num);
            tracing::debug!(?block, "there is no majority for this checkpoint yet");
            return None;
        };
        let of_value = || entries.iter().filter(|(_, entry)| said(entry) == value);
        let digests = of_value().filter_map(|(voter, entry)| Some((voter.clone(), entry.state_digest?)));
        let state_digest = match voters.decide(digests) {
            Agreement::Agreed { value, .. } => Some(value),
            Agreement::Conflict | Agreement::Undecided => None,
        };
        let (_, entry) = of_value().next()?;
        Some(CheckpointRecord {
            block_num: entry.block_num,
            kind: entry.kind,
            state_hash: entry.state_hash,
            block_hash: entry.block_hash,
            state_digest,
            root: entry.root?,
            prev_root: entry.prev_root.map_or(PreviousRoot::None, PreviousRoot::Known),
        })
    };
    by_block.into_values().filter_map(agreed).collect()
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::StateDigest;

    use super::*;

    fn entry() -> CheckpointEntry {
        CheckpointEntry {
            block_num: BlockNumber::try_from(101).unwrap(),
            kind: CheckpointKind::Delta,
            state_hash: ContentId::of(b"document"),
            block_hash: Some(ContentId::of(b"block")),
            state_digest: Some(StateDigest::EMPTY),
            root: Some(ContentId::of(b"root")),
            prev_root: Some(ContentId::of(b"root before")),
            document_bytes: None,
        }
    }

    fn decide(told: &[(&str, CheckpointEntry)]) -> Vec<CheckpointRecord> {
        let voters = Voters::new(["a", "b", "c"].map(|name| (VoterId(name.to_owned()), 1)));
        let told = told
            .iter()
            .map(|(voter, entry)| (VoterId((*voter).to_owned()), vec![*entry]));
        agreed_records(&voters, told.collect())
    }

    #[test]
    fn no_minority_decides_a_part_of_a_checkpoint() {
        let other = Some(ContentId::of(b"another"));
        let lies = [
            CheckpointEntry {
                root: other,
                ..entry()
            },
            CheckpointEntry {
                prev_root: other,
                ..entry()
            },
            CheckpointEntry {
                kind: CheckpointKind::State,
                ..entry()
            },
            CheckpointEntry {
                block_hash: other,
                ..entry()
            },
            CheckpointEntry {
                state_digest: None,
                ..entry()
            },
        ];
        for lie in lies {
            // The first in the order of their names is the one that lies.
            let records = decide(&[("a", lie), ("b", entry()), ("c", entry())]);
            let [record] = &records[..] else { panic!("{lie:?}") };
            assert_eq!(record.root, ContentId::of(b"root"), "{lie:?}");
            assert_eq!(
                record.prev_root,
                PreviousRoot::Known(ContentId::of(b"root before")),
                "{lie:?}"
            );
            assert_eq!(
                (record.kind, record.block_hash),
                (CheckpointKind::Delta, entry().block_hash),
                "{lie:?}"
            );
            assert_eq!(record.state_digest, entry().state_digest, "{lie:?}");
        }
    }

    #[test]
    fn a_checkpoint_without_a_majority_is_not_learned() {
        let root = Some(ContentId::of(b"another"));
        let other = CheckpointEntry { root, ..entry() };
        assert_eq!(decide(&[("a", entry())]), []);
        assert_eq!(decide(&[("a", entry()), ("b", other)]), []);
        assert_eq!(decide(&[("a", entry()), ("stranger", entry())]), []);
        // What most do not know of it, and only one does, is left open.
        let without = CheckpointEntry {
            state_digest: None,
            ..entry()
        };
        let records = decide(&[("a", without), ("b", without), ("c", entry())]);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].state_digest, None);
    }
}
