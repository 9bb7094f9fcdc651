//! Asking the configured voters about a block (`docs/protocol.md`, section 7).

use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::quorum::{Agreement, VoterId, Voters};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};
use tokio::task::JoinSet;

use super::handle::{ConsensusFound, NoConsensus};
use crate::peers::PeerUrl;
use crate::peers::client::PeerClient;
use crate::replica::ReplicaStatus;
use crate::store::{Position, Store, StoreError, View};

/// What is asked about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// The anchor that covers it. What stands between is bound by the hashes of its parents.
    Anchor {
        /// The anchor.
        anchor: Anchor,
        /// The hash that the block has below it.
        block_hash: ContentId,
    },
    /// Its hash: no irreversible anchor covers it.
    Hash,
}

impl Question {
    fn of(view: &View, block: BlockNumber) -> Result<Self, StoreError> {
        let irreversible = view
            .position()?
            .and_then(|position| Position::irreversible_block(&position));
        let (Some(stored), Some(irreversible)) = (view.block(block)?, irreversible) else {
            return Ok(Self::Hash);
        };
        let Ok(range) = BlockRange::new(block, irreversible) else {
            return Ok(Self::Hash);
        };
        let covering = view.checkpoints(range).next().transpose()?;
        let anchor = covering.and_then(|record| record.anchor());
        Ok(anchor.map_or(Self::Hash, |anchor| Self::Anchor {
            anchor,
            block_hash: stored.hash,
        }))
    }
}

/// Asks every configured voter about a block, and gives what more than half of their weight agrees on.
///
/// A honeycomb source votes with what its own stream computes to; what this node itself holds does not count.
pub(super) async fn ask(
    client: &PeerClient,
    store: &Store,
    status: &ReplicaStatus,
    voters: &Voters,
    peers: Vec<(VoterId, PeerUrl)>,
    block: BlockNumber,
) -> Result<ConsensusFound, NoConsensus> {
    let unreadable = |error: StoreError| {
        tracing::error!(%block, %error, "stored block cannot be read");
        NoConsensus::Undecided
    };
    if let Question::Anchor { anchor, block_hash } = Question::of(&store.view(), block).map_err(unreadable)? {
        let hashes = hashes_of_sources(&store.view(), status, anchor.block_num).map_err(unreadable)?;
        let mut cast: Vec<_> = hashes
            .into_iter()
            .map(|(voter, block_hash)| (voter, Anchor { block_hash, ..anchor }))
            .collect();
        let only = BlockRange::single(anchor.block_num);
        let told = ask_all(&peers, |url| {
            let client = client.clone();
            async move {
                let told = client.anchors(&url, only).await.ok()?;
                told.into_iter().next().map(Anchor::from)
            }
        });
        cast.extend(told.await);
        match voters.decide(cast) {
            Agreement::Agreed {
                value,
                voters,
                confidence,
            } if value == anchor => return Ok(found(block_hash, voters, confidence)),
            // They stand on another chain, and say what the block is there.
            Agreement::Agreed { .. } => {}
            Agreement::Conflict => return Err(NoConsensus::Conflict),
            Agreement::Undecided => return Err(NoConsensus::Undecided),
        }
    }
    let mut cast = hashes_of_sources(&store.view(), status, block).map_err(unreadable)?;
    let told = ask_all(&peers, |url| {
        let client = client.clone();
        async move {
            client
                .hash(&url, block)
                .await
                .ok()
                .map(|answer| answer.block_hash)
        }
    });
    cast.extend(told.await);
    match voters.decide(cast) {
        Agreement::Agreed {
            value,
            voters,
            confidence,
        } => Ok(found(value, voters, confidence)),
        Agreement::Conflict => Err(NoConsensus::Conflict),
        Agreement::Undecided => Err(NoConsensus::Undecided),
    }
}

fn found(block_hash: ContentId, voters: Vec<VoterId>, confidence: f64) -> ConsensusFound {
    ConsensusFound {
        block_hash,
        voters: voters.into_iter().map(|voter| voter.0).collect(),
        confidence,
    }
}

/// Asks every voter that is a peer at the same time; those that do not answer have no vote.
async fn ask_all<T, Answer>(
    peers: &[(VoterId, PeerUrl)],
    ask: impl Fn(PeerUrl) -> Answer,
) -> Vec<(VoterId, T)>
where
    T: Send + 'static,
    Answer: Future<Output = Option<T>> + Send + 'static,
{
    let mut asked = JoinSet::new();
    for (voter, url) in peers {
        let (voter, answer) = (voter.clone(), ask(url.clone()));
        asked.spawn(async move { Some((voter, answer.await?)) });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// The hash of a block on each honeycomb's own chain, where that is known.
fn hashes_of_sources(
    view: &View,
    status: &ReplicaStatus,
    block: BlockNumber,
) -> Result<Vec<(VoterId, ContentId)>, StoreError> {
    let mut hashes = Vec::new();
    for source in &status.sources {
        let (Some(number), Some(hash)) = (source.tip, source.tip_hash) else {
            continue;
        };
        if let Some(hash) = hash_on_chain_of(view, BlockReference { number, hash }, block)? {
            hashes.push((VoterId(source.source.clone()), hash));
        }
    }
    Ok(hashes)
}

/// The hash of a block on the chain that ends at a tip: down the blocks of a fork, and on the canonical chain
/// from there. None above the tip, and below a checkpoint of the fork's own, whose block its link does not name.
fn hash_on_chain_of(
    view: &View,
    tip: BlockReference,
    block: BlockNumber,
) -> Result<Option<ContentId>, StoreError> {
    let mut here = tip;
    while here.number >= block {
        let canonical = view.block(here.number)?;
        if canonical.is_some_and(|stored| stored.hash == here.hash) {
            return Ok(view.block(block)?.map(|stored| stored.hash));
        }
        let Some(stored) = view.fork_block(here)? else {
            return Ok(None);
        };
        if here.number == block {
            return Ok(Some(here.hash));
        }
        let Some(number) = here.number.previous() else {
            return Ok(None);
        };
        let previous = stored.previous_hash(here.number)?;
        let checkpoint = view
            .checkpoint(number)?
            .filter(|record| record.state_hash == previous);
        let hash = checkpoint
            .and_then(|record| record.block_hash)
            .unwrap_or(previous);
        here = BlockReference { number, hash };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::{Block, JsonValue, Operation, Operations, Path};

    use super::*;
    use crate::ingest::{LastIndex, SourceCursor, SourceEvent, SourceEventKind};
    use crate::peers::client::ClientTimeouts;
    use crate::replica::{Replica, ReplicaSettings};
    use crate::test_chain::{Home, at, chain, settings};

    fn hear(replica: &mut Replica, source: &str, block: Block) {
        let number = block.number;
        let event = SourceEventKind::Block {
            number,
            operations: block.operations,
            timestamp_ms: 5,
            cursor: SourceCursor {
                last_index: LastIndex(None),
                block: number,
            },
        };
        let source = source.parse().unwrap();
        replica
            .on_source(SourceEvent { source, event }, 1_700_000_000)
            .unwrap();
    }

    /// 150 blocks, 100 of them irreversible by the voter `peer`; `one` and `two` stand on them, `three` goes its
    /// own way from the 140th on.
    fn replica(home: &Home) -> Replica {
        let voters = Voters::new([(VoterId("peer".to_owned()), 1)]);
        let mut replica = home.started(ReplicaSettings { voters, ..settings() });
        for (source, last) in [("one", 150), ("two", 145), ("three", 140)] {
            for fetched in &chain().blocks[..last] {
                hear(&mut replica, source, fetched.block.block().clone());
            }
        }
        let put = Operation::Put {
            path: Path::from_slashed("stats/mark"),
            data: JsonValue::Number(1.0),
        };
        for place in 140..143 {
            let operations = Operations::new(vec![put.clone(), Operation::WriteMarker]).unwrap();
            let honest = chain().blocks[place].block.block();
            hear(
                &mut replica,
                "three",
                Block {
                    operations,
                    ..honest.clone()
                },
            );
        }
        let anchor = replica.store().view().checkpoint(at(99)).unwrap().unwrap();
        let anchor = anchor.anchor().unwrap();
        replica.on_vote(VoterId("peer".to_owned()), anchor).unwrap();
        replica
    }

    #[test]
    fn blocks_that_an_irreversible_anchor_covers_are_asked_about_by_the_anchor() {
        let home = Home::new();
        let replica = replica(&home);
        let view = replica.store().view();
        let anchor = view.checkpoint(at(99)).unwrap().unwrap().anchor().unwrap();
        for place in [0, 42, 99] {
            let block_hash = chain().blocks[place].block.hash();
            let question = Question::of(&view, at(place)).unwrap();
            assert_eq!(question, Question::Anchor { anchor, block_hash });
        }
        for above in [at(100), at(149), at(149).next()] {
            assert_eq!(Question::of(&view, above).unwrap(), Question::Hash);
        }
    }

    #[test]
    fn every_source_votes_with_the_block_of_its_own_chain() {
        let home = Home::new();
        let replica = replica(&home);
        let (view, status) = (replica.store().view(), replica.status());
        let votes = |place: usize| -> Vec<(String, bool)> {
            let hashes = hashes_of_sources(&view, &status, at(place)).unwrap();
            let honest = chain().blocks[place].block.hash();
            hashes
                .into_iter()
                .map(|(voter, hash)| (voter.0, hash == honest))
                .collect()
        };
        let named = |votes: &[(&str, bool)]| -> Vec<(String, bool)> {
            votes
                .iter()
                .map(|(name, same)| ((*name).to_owned(), *same))
                .collect()
        };
        assert_eq!(votes(99), named(&[("one", true), ("three", true), ("two", true)]));
        assert_eq!(
            votes(141),
            named(&[("one", true), ("three", false), ("two", true)])
        );
        assert_eq!(votes(147), named(&[("one", true)]));
    }

    #[tokio::test]
    async fn sources_that_contradict_each_other_are_a_conflict_and_silence_is_not() {
        let home = Home::new();
        let replica = replica(&home);
        let guard = crate::peers::address_guard::AddressGuard::default();
        let client = PeerClient::new(&"tester".parse().unwrap(), guard, ClientTimeouts::default()).unwrap();
        let ask = async |voters: &[&str], place: usize| {
            let voters = voters.iter().map(|name| (VoterId((*name).to_owned()), 1));
            let voters = Voters::new(voters);
            let (store, status) = (replica.store(), replica.status());
            let found = ask(&client, store, &status, &voters, Vec::new(), at(place)).await;
            found.map(|found| (found.block_hash, found.voters))
        };
        let hash = |place: usize| chain().blocks[place].block.hash();
        let both = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(ask(&["one", "two"], 141).await, Ok((hash(141), both)));
        let all = ["one", "three", "two"];
        let named = all.map(str::to_owned).to_vec();
        assert_eq!(ask(&all, 42).await, Ok((hash(42), named)));
        assert_eq!(ask(&["one", "three"], 141).await, Err(NoConsensus::Conflict));
        // Whoever does not answer still counts.
        assert_eq!(ask(&["one", "silent"], 42).await, Err(NoConsensus::Undecided));
        assert_eq!(
            ask(&["one", "three", "silent"], 141).await,
            Err(NoConsensus::Undecided)
        );
    }
}
