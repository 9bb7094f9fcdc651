//! Gathers the operations of a block and hands it over when it is complete.

use honeygraph_chain::{BlockNumber, BlockRange, Operation, Operations};

use super::entry::{Entry, IndexOrigin};
use super::place::Refusal;
use super::{Assembler, Below, Front, Moment, Output, error};
use crate::ingest::message::{LastIndex, OperationIndex};
use crate::ingest::source::{SourceCursor, SourceEventKind};

/// The block that is being gathered; its number is the front's.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub(super) number: BlockNumber,
    pub(super) first_index: OperationIndex,
    pub(super) operations: Vec<Operation>,
    /// Where the last operation's index comes from.
    pub(super) last_origin: IndexOrigin,
    pub(super) weight: usize,
    pub(super) timestamp_ms: Option<u64>,
}

/// A block that ends inside a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unclosed {
    pub(super) number: BlockNumber,
    pub(super) first_index: OperationIndex,
}

/// Why the next operation is not taken.
pub(super) enum NotTaken {
    Refused(Refusal),
    Unclosed(Unclosed, Entry),
}

impl OpenBlock {
    const fn new(number: BlockNumber, first_index: OperationIndex) -> Self {
        Self {
            number,
            first_index,
            operations: Vec::new(),
            last_origin: IndexOrigin::Stated,
            weight: 0,
            timestamp_ms: None,
        }
    }

    fn push(&mut self, entry: Entry, weight: usize) {
        self.weight = self.weight.saturating_add(weight);
        self.last_origin = entry.origin;
        self.timestamp_ms = self.timestamp_ms.or(entry.timestamp_ms);
        self.operations.push(entry.operation);
    }

    pub(super) fn is_inside_batch(&self) -> bool {
        self.operations
            .last()
            .is_some_and(|operation| *operation != Operation::WriteMarker)
    }
}

impl Assembler {
    /// Takes the operation whose index is next.
    pub(super) fn take(&mut self, entry: Entry, now: Moment, out: &mut Vec<Output>) -> Result<(), NotTaken> {
        let is_first = self.next_index == OperationIndex::default();
        let (next, below) = match self.front {
            // The first operation that the source ever logged begins its block.
            Front::Unknown if is_first => (entry.block, Below::Complete),
            Front::Unknown => (entry.block.next(), Below::Partial),
            Front::At {
                next,
                below: Below::Told,
            } if is_first => (next.min(entry.block), Below::Complete),
            Front::At { next, below } => (next, below),
        };
        self.front = Front::At { next, below };
        if entry.block < next {
            if below == Below::Complete {
                return Err(NotTaken::Refused(Refusal::Late {
                    block: entry.block,
                    front: next,
                }));
            }
            self.front = Front::At {
                next,
                below: Below::Partial,
            };
            self.advance(&entry, now);
            return Ok(());
        }
        if let Some(before) = entry.block.previous().filter(|before| *before >= next)
            && let Err(unclosed) = self.close_through(before, now, out)
        {
            return Err(NotTaken::Unclosed(unclosed, entry));
        }
        self.front = Front::At {
            next: entry.block,
            below: Below::Complete,
        };
        let first_index = self.next_index;
        let weight = entry.weight();
        let open = self
            .open
            .get_or_insert_with(|| OpenBlock::new(entry.block, first_index));
        if open.weight.saturating_add(weight) > self.limits.held_bytes {
            out.push(error(&format!(
                "block {} has more than {} bytes of operations and is left out",
                entry.block, self.limits.held_bytes
            )));
            self.leave_out(entry.block, out);
            self.advance(&entry, now);
            return Ok(());
        }
        self.advance(&entry, now);
        if let Some(open) = &mut self.open {
            open.push(entry, weight);
        }
        Ok(())
    }

    fn advance(&mut self, entry: &Entry, now: Moment) {
        self.recent.push(entry.digest());
        self.next_index = self.next_index.next();
        self.taken = self.taken.saturating_add(1);
        if let Some(request) = &mut self.request {
            request.give_up_at = now.elapsed.saturating_add(self.limits.request_timeout);
        }
    }

    /// Hands over the open block and the empty ones after it, up to `through`.
    pub(super) fn close_through(
        &mut self,
        through: BlockNumber,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Result<(), Unclosed> {
        let Front::At { next, .. } = self.front else {
            return Ok(());
        };
        if through < next {
            return Ok(());
        }
        let mut first_empty = next;
        if let Some(open) = self.open.take() {
            let unclosed = Unclosed {
                number: open.number,
                first_index: open.first_index,
            };
            let operations = Operations::new(open.operations).map_err(|_| unclosed)?;
            let cursor = self.remember(open.number);
            out.push(Output::Event(SourceEventKind::Block {
                number: open.number,
                operations,
                timestamp_ms: open
                    .timestamp_ms
                    .map_or(now.unix_ms, |written| written.min(now.unix_ms)),
                cursor,
            }));
            first_empty = open.number.next();
        }
        self.front = Front::after(through);
        if let Ok(range) = BlockRange::new(first_empty, through) {
            if range.len() > self.limits.empty_blocks {
                self.cursors.clear();
                out.push(Output::Event(SourceEventKind::Restarted));
            } else {
                let cursor = self.remember(through);
                out.push(Output::Event(SourceEventKind::EmptyBlocks {
                    range,
                    timestamp_ms: now.unix_ms,
                    cursor,
                }));
            }
        }
        Ok(())
    }

    fn remember(&mut self, block: BlockNumber) -> SourceCursor {
        let cursor = SourceCursor {
            last_index: LastIndex::before(self.next_index),
            block,
        };
        while self.cursors.len() >= self.limits.remembered_blocks.max(1) {
            self.cursors.pop_front();
        }
        self.cursors.push_back(cursor);
        cursor
    }

    /// A block ends inside a batch: asks for it again, and leaves it out when it comes back the same.
    pub(super) fn refuse_block(&mut self, unclosed: Unclosed, out: &mut Vec<Output>) {
        let Unclosed { number, first_index } = unclosed;
        let last = LastIndex::before(self.next_index).0.unwrap_or_default();
        out.push(error(&format!(
            "block {number}: operation {last} is outside a batch: a write marker must follow it in its block"
        )));
        if self.refused == Some(number) {
            self.leave_out(number, out);
        } else {
            self.refused = Some(number);
            self.open = None;
            self.take_back_to(first_index);
            self.request = None;
        }
    }

    /// Goes on after a block that cannot be had from this source.
    fn leave_out(&mut self, number: BlockNumber, out: &mut Vec<Output>) {
        self.open = None;
        self.cursors.clear();
        self.front = Front::At {
            next: number.next(),
            below: Below::Partial,
        };
        out.push(Output::Event(SourceEventKind::Restarted));
    }
}
