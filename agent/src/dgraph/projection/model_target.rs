//! A projection's target on the model: reads what stands there as the questions to Dgraph do.

use std::collections::BTreeMap;
use std::time::Duration;

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::facts::{BlockRow, CheckpointRow};
use super::model::Model;
use super::replacement::{StoredPath, StoredState};
use super::schema::predicate as p;
use super::target::Target;
use super::{
    BlockNode, ClaimOutcome, Cursor, Mark, Mutation, ProjectionError, ProjectionStore, Region, StepOutcome,
    StoodBlock, StoodCheckpoint, Uid, WriterName,
};
use crate::dgraph::client::Value;

/// Nodes of a page: few, so that there are several.
const PAGE: usize = 50;

/// The values of one node.
type Facts = BTreeMap<String, Vec<Value>>;

impl ProjectionStore<Model> {
    fn node(&self, uid: Uid) -> Facts {
        let facts = self.cluster().facts();
        let of_node = facts
            .range((uid, String::new())..)
            .take_while(|((of, _), _)| *of == uid);
        of_node
            .map(|((_, predicate), values)| (predicate.clone(), values.clone()))
            .collect()
    }

    /// Nodes that have a predicate, from the one after `after` on.
    fn having(&self, predicate: &str, after: Uid) -> Vec<(Uid, Facts)> {
        let facts = self.cluster().facts();
        let uids = facts
            .keys()
            .filter(|(uid, name)| name == predicate && *uid > after)
            .map(|(uid, _)| *uid);
        uids.take(PAGE).map(|uid| (uid, self.node(uid))).collect()
    }
}

fn text(facts: &Facts, predicate: &str) -> Option<String> {
    match facts.get(predicate)?.first()? {
        Value::Text(text) => Some(text.clone()),
        other => panic!("{predicate}: {other:?}"),
    }
}

fn texts(facts: &Facts, predicate: &str) -> std::collections::BTreeSet<String> {
    let values = facts.get(predicate).into_iter().flatten();
    values
        .map(|value| match value {
            Value::Text(text) => text.clone(),
            other => panic!("{predicate}: {other:?}"),
        })
        .collect()
}

fn number(facts: &Facts, predicate: &str) -> Option<BlockNumber> {
    match facts.get(predicate)?.first()? {
        Value::Integer(number) => BlockNumber::try_from(u64::try_from(*number).ok()?).ok(),
        other => panic!("{predicate}: {other:?}"),
    }
}

fn stored_state(uid: Uid, facts: &Facts) -> StoredState {
    StoredState {
        uid,
        path: text(facts, p::STATE_PATH).unwrap_or_default(),
        value: text(facts, p::STATE_VALUE),
    }
}

fn checkpoint(uid: Uid, facts: &Facts) -> StoodCheckpoint {
    StoodCheckpoint {
        uid,
        row: number(facts, p::CHECKPOINT_BLOCK_NUM).map(|number| CheckpointRow {
            number,
            block_hash: text(facts, p::CHECKPOINT_BLOCK_HASH),
            state_hash: text(facts, p::CHECKPOINT_STATE_HASH).unwrap_or_default(),
            kind: text(facts, p::CHECKPOINT_KIND).unwrap_or_default(),
            state_digest: text(facts, p::CHECKPOINT_STATE_DIGEST),
        }),
    }
}

impl Target for ProjectionStore<Model> {
    fn region(&self) -> &Region {
        Self::region(self)
    }

    async fn cursor(&self) -> Result<Cursor, ProjectionError> {
        Self::cursor(self).await
    }

    async fn last_step(&self) -> Result<(Cursor, Option<Mark>), ProjectionError> {
        Self::last_step(self).await
    }

    fn writer(&self) -> &WriterName {
        Self::writer(self)
    }

    async fn write(
        &self,
        before: &Cursor,
        after: &Cursor,
        facts: Mutation,
    ) -> Result<StepOutcome, ProjectionError> {
        Self::write(self, before, after, facts).await
    }

    async fn claim(
        &self,
        before: &Cursor,
        blocks: u64,
        longest: Duration,
    ) -> Result<ClaimOutcome, ProjectionError> {
        Self::claim(self, before, blocks, longest).await
    }

    async fn state_nodes(&self, after: Uid) -> Result<Vec<StoredPath>, ProjectionError> {
        let nodes = self.having(p::STATE_PATH, after);
        Ok(nodes
            .iter()
            .map(|(uid, facts)| StoredPath {
                uid: *uid,
                path: text(facts, p::STATE_PATH).unwrap_or_default(),
            })
            .collect())
    }

    async fn state_of(&self, nodes: &[Uid]) -> Result<Vec<StoredState>, ProjectionError> {
        let nodes = nodes.iter().map(|uid| (*uid, self.node(*uid)));
        Ok(nodes
            .filter(|(_, facts)| facts.contains_key(p::STATE_PATH))
            .map(|(uid, facts)| stored_state(uid, &facts))
            .collect())
    }

    async fn blocks(&self, range: BlockRange) -> Result<Vec<StoodBlock>, ProjectionError> {
        let nodes = range
            .iter()
            .map(|number| (number, self.node(Self::region(self).block(number))));
        let stood = nodes
            .filter(|(_, facts)| !facts.is_empty())
            .map(|(node, facts)| StoodBlock {
                node,
                number: number(&facts, p::BLOCK_NUM),
                fork: text(&facts, p::FORK_ID),
                row: BlockRow {
                    number: node,
                    hash: text(&facts, p::BLOCK_HASH).unwrap_or_default(),
                    previous_hash: text(&facts, p::PREVIOUS_HASH).unwrap_or_default(),
                    timestamp_ms: facts.get(p::TIMESTAMP).map(|values| match &values[0] {
                        Value::Time(time) => time.as_millisecond(),
                        other => panic!("{other:?}"),
                    }),
                    operations: text(&facts, p::OPERATIONS).unwrap_or_default(),
                    paths: texts(&facts, p::OP_PATH),
                    accounts: texts(&facts, p::OP_ACCOUNT),
                    is_unverified: facts.contains_key(p::VERIFICATION),
                },
            });
        Ok(stood.collect())
    }

    async fn block_hashes(&self, range: BlockRange) -> Result<Vec<BlockReference>, ProjectionError> {
        let stood = range.iter().filter_map(|number| {
            let hash = text(&self.node(Self::region(self).block(number)), p::BLOCK_HASH)?;
            let hash = hash.parse().ok()?;
            Some(BlockReference { number, hash })
        });
        Ok(stood.collect())
    }

    async fn checkpoints(&self, range: BlockRange) -> Result<Vec<StoodCheckpoint>, ProjectionError> {
        let uids = range.iter().map(|number| Self::region(self).checkpoint(number));
        let nodes = uids.map(|uid| (uid, self.node(uid)));
        Ok(nodes
            .filter(|(_, facts)| facts.contains_key(p::CHECKPOINT_BLOCK_NUM))
            .map(|(uid, facts)| checkpoint(uid, &facts))
            .collect())
    }

    async fn block_nodes(&self, after: Uid) -> Result<Vec<BlockNode>, ProjectionError> {
        let nodes = self.having(p::BLOCK_NUM, after);
        Ok(nodes
            .into_iter()
            .map(|(uid, facts)| BlockNode {
                uid,
                number: number(&facts, p::BLOCK_NUM),
                hash: text(&facts, p::BLOCK_HASH).and_then(|hash| hash.parse().ok()),
                is_on_fork: facts.contains_key(p::FORK_ID),
            })
            .collect())
    }

    async fn checkpoint_nodes(&self, after: Uid) -> Result<Vec<StoodCheckpoint>, ProjectionError> {
        let nodes = self.having(p::CHECKPOINT_BLOCK_NUM, after);
        Ok(nodes.iter().map(|(uid, facts)| checkpoint(*uid, facts)).collect())
    }
}
