//! Reads pieces of what stands in Dgraph and compares them with the log.

use std::sync::Arc;

use honeygraph_chain::{BlockNumber, BlockRange};

use super::cursor::{Cursor, StateCursor};
use super::log::survey;
use super::plan::CursorBlock;
use super::runner::{AdvanceError, Progress, Projection, off_thread};
use super::store::StepOutcome;
use super::target::Target;
use super::touched::nodes_after;
use super::verify::{self, Compared, Piece, Places};
use super::weight::{StateLimits, is_heavy};
use crate::dgraph::client::Uid;
use crate::store::View;

/// What the log and Dgraph both have of the chain.
struct Common {
    view: View,
    /// Lowest block that the log has without a hole.
    lowest: BlockNumber,
    /// Blocks that both have; none where Dgraph does not say from where on it has them.
    blocks: Option<BlockRange>,
}

impl<T: Target> Projection<T> {
    /// Compares the next piece of what stands in Dgraph with the log, and puts it right.
    pub async fn verify_piece(&mut self) -> Result<Progress, AdvanceError> {
        let cursor = self.target.cursor().await?;
        let piece = self.verified.next;
        self.verified.next = piece.next().unwrap_or_default();
        let mut places = self.verified.places.clone();
        let compared = self.compare(&cursor, piece, &mut places).await;
        // A piece that cannot be read must not hold the others up.
        self.verified.places = places;
        let Compared::Piece { repair, .. } = compared? else {
            return Ok(Progress::Idle);
        };
        if repair.facts.is_empty() {
            return Ok(Progress::Idle);
        }
        for difference in repair.differences.iter().take(LOGGED) {
            tracing::warn!(%difference, "dgraph differs from the log");
        }
        match self.target.write(&cursor, &cursor, repair.facts).await? {
            StepOutcome::Won => Ok(Progress::Repaired {
                blocks: repair.blocks,
                nodes: repair.nodes,
            }),
            // Looked at again on the next round.
            StepOutcome::Lost(_) => Ok(Progress::Idle),
        }
    }

    /// Compares the next piece of a part, and moves the place of that part on.
    pub(super) async fn compare(
        &self,
        cursor: &Cursor,
        piece: Piece,
        places: &mut Places,
    ) -> Result<Compared, AdvanceError> {
        match piece {
            Piece::Blocks => self.compare_blocks(cursor, places).await,
            Piece::StoredBlocks => self.compare_stored_blocks(cursor, places).await,
            Piece::StoredCheckpoints => self.compare_stored_checkpoints(cursor, places).await,
            Piece::StoredState => self.compare_stored_state(cursor, places).await,
            Piece::State => self.compare_state(cursor, places).await,
        }
    }

    async fn compare_blocks(&self, cursor: &Cursor, places: &mut Places) -> Result<Compared, AdvanceError> {
        let Some(common) = self.common(cursor).await? else {
            return Ok(other_chain(cursor));
        };
        let Some(all) = common.blocks else {
            places.blocks = None;
            return Ok(Compared::nothing());
        };
        let from = places.blocks.map_or(all.start(), |at| at.max(all.start()));
        let range = BlockRange::new(from, all.end()).unwrap_or(all);
        let (common, range) = off_thread(move || {
            let mut range = BlockRange::starting_at(range.start(), range.len().min(verify::BLOCKS));
            while is_heavy(&common.view, range)? {
                range = BlockRange::starting_at(range.start(), range.len() / 2);
            }
            Ok((common, range))
        })
        .await?;
        // After the last it begins anew, also where more blocks come meanwhile.
        places.blocks = (range.end() < all.end()).then(|| range.end().next());
        let blocks = self.target.blocks(range).await?;
        let checkpoints = self.target.checkpoints(range).await?;
        let (target, writers) = (Arc::clone(&self.target), self.settings.writers);
        let repair = off_thread(move || {
            verify::repair_blocks(&common.view, target.region(), range, blocks, checkpoints, writers)
        })
        .await?;
        Ok(Compared::Piece {
            repair,
            rows: range.len(),
            ends: range.end() == all.end(),
        })
    }

    async fn compare_stored_blocks(
        &self,
        cursor: &Cursor,
        places: &mut Places,
    ) -> Result<Compared, AdvanceError> {
        if cursor.applied.is_some() && cursor.from.is_none() {
            return Ok(Compared::nothing());
        }
        let Some(common) = self.common(cursor).await? else {
            return Ok(other_chain(cursor));
        };
        let page = self.target.block_nodes(places.stored_blocks).await?;
        places.stored_blocks = page.last().map_or(Uid(0), |last| last.uid);
        let (rows, ends) = (page.len() as u64, page.is_empty());
        let (target, cursor) = (Arc::clone(&self.target), cursor.clone());
        let repair =
            off_thread(move || verify::repair_stored_blocks(&common.view, target.region(), &cursor, &page))
                .await?;
        Ok(Compared::Piece { repair, rows, ends })
    }

    async fn compare_stored_checkpoints(
        &self,
        cursor: &Cursor,
        places: &mut Places,
    ) -> Result<Compared, AdvanceError> {
        let Some(common) = self.common(cursor).await? else {
            return Ok(other_chain(cursor));
        };
        let page = self.target.checkpoint_nodes(places.stored_checkpoints).await?;
        places.stored_checkpoints = page.last().map_or(Uid(0), |last| last.uid);
        let (rows, ends) = (page.len() as u64, page.is_empty());
        let (target, cursor) = (Arc::clone(&self.target), cursor.clone());
        let repair = off_thread(move || {
            let Common { view, lowest, .. } = common;
            verify::repair_stored_checkpoints(&view, target.region(), &cursor, lowest, &page)
        })
        .await?;
        Ok(Compared::Piece { repair, rows, ends })
    }

    async fn compare_stored_state(
        &self,
        cursor: &Cursor,
        places: &mut Places,
    ) -> Result<Compared, AdvanceError> {
        let Some((view, _)) = self.view_of_state(cursor)? else {
            return Ok(other_state(cursor));
        };
        let page = self.target.state_nodes(places.stored_state).await?;
        places.stored_state = page.last().map_or(Uid(0), |last| last.uid);
        let (rows, ends) = (page.len() as u64, page.is_empty());
        let target = Arc::clone(&self.target);
        let repair = off_thread(move || verify::repair_stored_state(&view, target.region(), &page)).await?;
        Ok(Compared::Piece { repair, rows, ends })
    }

    async fn compare_state(&self, cursor: &Cursor, places: &mut Places) -> Result<Compared, AdvanceError> {
        let Some((view, height)) = self.view_of_state(cursor)? else {
            return Ok(other_state(cursor));
        };
        let after = places.state.clone();
        let (view, (nodes, last)) = off_thread(move || {
            let nodes = nodes_after(&view, after.as_ref(), StateLimits::piece(verify::NODES))?;
            Ok((view, nodes))
        })
        .await?;
        places.state = last;
        let uids: Vec<Uid> = nodes
            .iter()
            .map(|node| self.target.region().state(node.key()))
            .collect();
        let found = self.target.state_of(&uids).await?;
        let target = Arc::clone(&self.target);
        let rows = nodes.len() as u64;
        let repair =
            off_thread(move || verify::repair_state(&view, target.region(), height, nodes, &found)).await?;
        Ok(Compared::Piece {
            repair,
            rows,
            ends: places.state.is_none(),
        })
    }

    /// What the log and Dgraph both have; none where Dgraph stands on another chain.
    async fn common(&self, cursor: &Cursor) -> Result<Option<Common>, AdvanceError> {
        let (log, cursor) = (self.log.clone(), cursor.clone());
        off_thread(move || {
            let view = log.view();
            let Some(survey) = survey(&view, &cursor)? else {
                return Ok(None);
            };
            let position = survey.position;
            let blocks = match position.cursor_block {
                CursorBlock::Canonical(applied) => cursor
                    .from
                    .and_then(|from| BlockRange::new(from.max(position.from), applied).ok()),
                CursorBlock::None => None,
                _ => return Ok(None),
            };
            Ok(Some(Common {
                view,
                lowest: position.from,
                blocks,
            }))
        })
        .await
    }

    /// The view of the log, if Dgraph shows exactly its state.
    fn view_of_state(&self, cursor: &Cursor) -> Result<Option<(View, BlockNumber)>, AdvanceError> {
        let view = self.log.view();
        let height = view.position()?.map(|position| position.state_height);
        let is_canonical = match cursor.applied {
            Some(block) => view
                .block(block.number)?
                .is_some_and(|ours| ours.hash == block.hash),
            None => false,
        };
        Ok(match (&cursor.state, height) {
            (StateCursor::At(block), Some(height)) if *block == height && is_canonical => {
                Some((view, height))
            }
            _ => None,
        })
    }
}

/// Differences of one piece that are written to the log.
const LOGGED: usize = 5;

fn other_chain(cursor: &Cursor) -> Compared {
    Compared::NotNow(match cursor.applied {
        Some(applied) => format!(
            "Dgraph stands at block {}, {}, which is not on the log's chain",
            applied.number, applied.hash
        ),
        None => "the log has no block yet".to_owned(),
    })
}

fn other_state(cursor: &Cursor) -> Compared {
    Compared::NotNow(match &cursor.state {
        StateCursor::At(block) => {
            format!("Dgraph's state is the one after block {block}, and the log is not there")
        }
        StateCursor::Nothing => "Dgraph has no state yet".to_owned(),
        StateCursor::Replacing { to, .. } => {
            format!("Dgraph's state is being replaced by the one after block {to}")
        }
    })
}
