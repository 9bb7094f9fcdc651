//! Which stored documents are kept: those that peers can start from.

use std::collections::BTreeSet;

use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::{Replica, StoreError};
use crate::store::{CheckpointRecord, Position, View};

impl Replica {
    /// Ages documents out if a full state has become irreversible above a block.
    pub(super) fn age_out_documents_since(&mut self, before: Option<BlockNumber>) -> Result<(), StoreError> {
        let irreversible = self.writer.position().and_then(Position::irreversible_block);
        let range =
            irreversible.map(|irreversible| BlockRange::new(before.unwrap_or_default(), irreversible));
        let Some(Ok(range)) = range else {
            return Ok(());
        };
        for record in self.writer.store().view().checkpoints(range).rev() {
            if record?.kind == CheckpointKind::State {
                return self.age_out_documents();
            }
        }
        Ok(())
    }

    /// Removes the documents that nobody starts from any more: full states that are irreversible, except the
    /// newest ones and the one that the deltas of today name, and the deltas that were stored with them.
    pub(super) fn age_out_documents(&mut self) -> Result<(), StoreError> {
        let Some(position) = self.writer.position().cloned() else {
            return Ok(());
        };
        let view = self.writer.store().view();
        let outdated = outdated(&view, &position, self.settings.state_documents.get())?;
        for id in outdated {
            let mut transaction = self.writer.begin();
            transaction.remove_document(id)?;
            transaction.commit()?;
            tracing::debug!(%id, "document aged out");
        }
        Ok(())
    }
}

/// The stored documents that go where `newest` irreversible full states are kept.
fn outdated(view: &View, position: &Position, newest: usize) -> Result<Vec<ContentId>, StoreError> {
    let mut states = Vec::new();
    let mut deltas = Vec::new();
    let mut outdated = Vec::new();
    for id in view.document_ids() {
        let id = id?;
        match view.checkpoint_by_id(id)? {
            Some(record) if record.kind == CheckpointKind::State => states.push(record),
            Some(record) => deltas.push(record),
            // Its checkpoint was taken back with the fork that it was on.
            None => outdated.push(id),
        }
    }
    let irreversible = position.irreversible_block();
    let is_proven = |record: &CheckpointRecord| Some(record.block_num) <= irreversible;
    let (mut proven, open): (Vec<_>, Vec<_>) = states.into_iter().partition(is_proven);
    proven.sort_unstable_by_key(|record| std::cmp::Reverse(record.block_num));
    let kept: BTreeSet<ContentId> = proven
        .iter()
        .take(newest)
        .chain(&open)
        .map(|record| record.state_hash)
        .chain([position.checkpoints.root])
        .collect();
    let old_states = proven.iter().filter(|record| !kept.contains(&record.state_hash));
    let old_deltas = deltas.iter().filter(|record| !kept.contains(&record.root));
    outdated.extend(old_states.chain(old_deltas).map(|record| record.state_hash));
    Ok(outdated)
}
