//! Takes back what contradicts the log, where nobody else writes or this writer wrote it: then the log is right, which
//! has turned since, and Dgraph is not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::cursor::{Cursor, StateCursor};
use super::facts::clear_block;
use super::runner::{AdvanceError, Progress, Projection, Writers, off_thread};
use super::store::StepOutcome;
use super::target::Target;
use crate::dgraph::client::Mutation;
use crate::store::View;

/// Times that what contradicts is taken back within [`WITHIN`]. More often it is not Dgraph that is wrong: two
/// nodes that each take the cluster for their own, or a log that turns.
const TIMES: usize = 3;
/// See [`TIMES`].
const WITHIN: Duration = Duration::from_hours(1);

/// How often what contradicts was taken back.
#[derive(Debug, Default)]
pub(super) struct Rewinds {
    began: VecDeque<Instant>,
    is_on: bool,
}

impl Rewinds {
    /// Whether it may be done now: one that is under way goes on.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        if self.is_on {
            return true;
        }
        while self
            .began
            .front()
            .is_some_and(|began| now.saturating_duration_since(*began) >= WITHIN)
        {
            self.began.pop_front();
        }
        if self.began.len() >= TIMES {
            return false;
        }
        self.began.push_back(now);
        self.is_on = true;
        true
    }

    /// Nothing contradicts any more.
    pub(super) const fn over(&mut self) {
        self.is_on = false;
    }
}

impl<T: Target> Projection<T> {
    /// Takes the highest blocks back, at most those of a step, down to one that both have. If there is none among
    /// them, the next step goes on below in a cluster of one's own; what others may have written stays.
    pub(super) async fn rewind(
        &mut self,
        cursor: &Cursor,
        tip: BlockReference,
        ours: Option<ContentId>,
    ) -> Result<Progress, AdvanceError> {
        let lowest = tip.number.saturating_sub(self.settings.step_blocks);
        let from = cursor.from.unwrap_or(lowest).min(tip.number);
        let range = BlockRange::new(lowest.max(from), tip.number).unwrap_or(BlockRange::single(tip.number));
        let stood = self.target.block_hashes(range).await?;
        let (view, target) = (self.log.view(), Arc::clone(&self.target));
        let before = cursor.clone();
        let writers = self.settings.writers;
        let rewound = off_thread(move || {
            let height = view.position()?.map(|position| position.state_height);
            let Some(after) = left(&view, height, &before, range, stood, writers)? else {
                return Ok(None);
            };
            let above = after
                .applied
                .map_or(range.start(), |applied| applied.number.next());
            let mut facts = Mutation::new();
            if let Ok(gone) = BlockRange::new(above, tip.number) {
                for number in gone.iter() {
                    clear_block(target.region(), number, &mut facts);
                }
            }
            Ok(Some((after, facts)))
        })
        .await?;
        let Some((after, facts)) = rewound else {
            return Ok(Progress::Mismatch { block: tip, ours });
        };
        let to = after.applied.map(|applied| applied.number);
        tracing::warn!(from = %tip.number, ?to, "blocks that contradict the log are taken back in Dgraph");
        match self.target.write(cursor, &after, facts).await? {
            StepOutcome::Won => self.cursor = Some(after),
            StepOutcome::Lost(now) => self.cursor = Some(now),
        }
        self.replacement = None;
        Ok(Progress::Rewound { from: tip.number, to })
    }
}

/// Where Dgraph stands once the blocks of a range that contradict the log are gone; none where others write too and
/// nothing in it is right.
fn left(
    view: &View,
    height: Option<BlockNumber>,
    cursor: &Cursor,
    range: BlockRange,
    mut known: Vec<BlockReference>,
    writers: Writers,
) -> Result<Option<Cursor>, crate::store::StoreError> {
    known.sort_unstable_by_key(|block| std::cmp::Reverse(block.number));
    let mut applied = None;
    for block in &known {
        let ours = view.block(block.number)?.map(|ours| ours.hash);
        if height.is_some_and(|height| block.number <= height) && ours == Some(block.hash) {
            applied = Some(*block);
            break;
        }
    }
    if applied.is_none() && writers == Writers::Several {
        return Ok(None);
    }
    // None of these is right; the lowest is where the next step looks on.
    let applied = applied.or_else(|| {
        let lowest = known.last().filter(|block| block.number < range.end());
        let is_last = cursor.from.is_none_or(|from| range.start() <= from);
        lowest.copied().filter(|_| !is_last)
    });
    let Some(applied) = applied else {
        return Ok(Some(Cursor::NOTHING));
    };
    let state = match cursor.state {
        StateCursor::At(shown) if shown <= applied.number => StateCursor::At(shown),
        _ => StateCursor::Nothing,
    };
    Ok(Some(Cursor {
        applied: Some(applied),
        from: cursor.from,
        state,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_again_and_again_is_left_to_a_person() {
        let began = Instant::now();
        let mut rewinds = Rewinds::default();
        for _ in 0..TIMES {
            assert!(rewinds.allow(began));
            assert!(rewinds.allow(began), "it goes on");
            rewinds.over();
        }
        assert!(!rewinds.allow(began + WITHIN / 2));
        assert!(rewinds.allow(began + WITHIN));
    }
}
