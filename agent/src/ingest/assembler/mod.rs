//! Makes complete blocks out of what one honeycomb session sends. Pure: messages and times go in, answers
//! and events come out.
//!
//! The source's running operation index is the thread (`docs/protocol.md`, section 5): as long as it goes
//! up by one, nothing was lost, and blocks in between without operations are truly empty. A jump is a hole:
//! what follows is held, the hole is requested, and given up when it is too large or does not arrive; then
//! the source starts again at its next complete block and peers have what was left out. A block is handed
//! over only when its beginning and its end are certain.

mod ahead;
mod blocks;
mod entry;
mod holes;
mod limits;
mod place;
mod recent;
#[cfg(test)]
mod tests;

pub use limits::AssemblerLimits;

use std::collections::VecDeque;
use std::time::Duration;

use honeygraph_chain::operation::OperationType;
use honeygraph_chain::{BlockNumber, ContentId};

use self::ahead::Ahead;
use self::blocks::OpenBlock;
use self::place::Refusal;
use self::recent::Recent;
use super::message::{
    CheckpointMessage, LastIndex, LogEntry, OperationIndex, ServerMessage, SyncState, SyncStatusMessage,
};
use super::source::{SourceCursor, SourceEventKind};

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Wall clock, Unix milliseconds.
    pub unix_ms: u64,
    /// Time since the session began; never goes back.
    pub elapsed: Duration,
}

/// What comes out.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// To the source.
    Send(ServerMessage),
    /// To the rest of the node.
    Event(SourceEventKind),
}

/// The state of one session.
#[derive(Debug)]
pub struct Assembler {
    limits: AssemblerLimits,
    /// Index of the operation that comes next without a hole.
    next_index: OperationIndex,
    /// The index after the highest one that the source is known to have.
    known_end: OperationIndex,
    front: Front,
    open: Option<OpenBlock>,
    ahead: Ahead,
    recent: Recent,
    request: Option<Request>,
    /// Blocks up to here are complete, once nothing below `known_end` is missing.
    complete_through: Option<BlockNumber>,
    /// The index after the last one, as the last `sync_status` of this session said.
    told_end: Option<OperationIndex>,
    told: Option<Told>,
    previous: Option<Previous>,
    markers: Markers,
    cursors: VecDeque<SourceCursor>,
    head: Option<BlockNumber>,
    report: Option<Report>,
    /// The block that was refused last; refused twice, it is left out.
    refused: Option<BlockNumber>,
    /// Operations taken in this session.
    taken: u64,
}

/// Where the blocks of this source stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    /// Nothing is known yet: whatever comes first is the middle of a block.
    Unknown,
    /// `next` is the next block to hand over, and its beginning is certain.
    At { next: BlockNumber, below: Below },
}

/// What to do with operations of blocks below the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    /// Those blocks are complete: refuse.
    Complete,
    /// The rest of a block whose beginning is missing: leave out.
    Partial,
    /// As `Partial`, and nothing but a `sync_status` says where we are.
    Told,
}

/// An outstanding `request_missing`.
#[derive(Debug, Clone, Copy)]
struct Request {
    to: OperationIndex,
    give_up_at: Duration,
}

/// What the last `sync_status` with a head said.
#[derive(Debug, Clone, Copy)]
struct Told {
    next_index: OperationIndex,
    head: BlockNumber,
}

/// How the source writes its markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Markers {
    /// Always with their index.
    Indexed,
    /// Also as the bare string `"W"`.
    Bare,
}

/// The operation sent last.
#[derive(Debug, Clone, Copy)]
struct Previous {
    index: OperationIndex,
    block: BlockNumber,
    kind: OperationType,
}

/// The checkpoints that the source named last.
#[derive(Debug, Clone, Copy)]
struct Report {
    at: BlockNumber,
    last: ContentId,
    previous: Option<ContentId>,
}

impl Assembler {
    /// A session; `cursor` is where the source stood when it was last heard.
    pub fn new(limits: AssemblerLimits, cursor: Option<SourceCursor>) -> Self {
        let (next_index, front) = match cursor {
            None => (OperationIndex::default(), Front::Unknown),
            Some(cursor) => (cursor.last_index.next(), Front::after(cursor.block)),
        };
        Self {
            ahead: Ahead::new(limits.ahead_operations, limits.held_bytes),
            recent: Recent::new(limits.remembered_operations),
            limits,
            next_index,
            known_end: next_index,
            front,
            open: None,
            request: None,
            complete_through: None,
            told_end: None,
            told: None,
            previous: None,
            markers: Markers::Indexed,
            cursors: cursor.into_iter().collect(),
            head: None,
            report: None,
            refused: None,
            taken: 0,
        }
    }

    /// Takes operations, in the order they were sent.
    pub fn operations(&mut self, entries: Vec<LogEntry>, now: Moment) -> Vec<Output> {
        let mut out = Vec::new();
        for entry in entries {
            match entry {
                LogEntry::Indexed(operation) => self.indexed(operation, now, &mut out),
                LogEntry::BareWriteMarker => self.bare_marker(now, &mut out),
            }
            self.settle(now, &mut out);
        }
        out
    }

    /// Takes a checkpoint message.
    pub fn checkpoint(&mut self, message: &CheckpointMessage, now: Moment) -> Vec<Output> {
        let mut out = Vec::new();
        let Some(covered) = message.block_num.previous() else {
            out.push(error(&"checkpoint 0 covers no block"));
            return out;
        };
        if let Err(refusal) = self.check_height(covered, now) {
            out.push(error(&format!("checkpoint {}: {refusal}", message.block_num)));
            return out;
        }
        out.push(Output::Event(SourceEventKind::Checkpoint {
            covered,
            id: message.hash,
            previous: message.prev_hash,
        }));
        self.raise_head(covered, &mut out);
        // It may be one of the last session, sent again before the operations that we missed since.
        if self.taken > 0 || self.told_end.is_some() {
            self.complete(covered);
        }
        self.settle(now, &mut out);
        out
    }

    /// Takes a `sync_status` and answers it.
    pub fn sync_status(&mut self, message: SyncStatusMessage, now: Moment) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(head) = message.block_num {
            if let Err(refusal) = self.check_height(head, now) {
                out.push(error(&format!("sync_status: {refusal}")));
                return out;
            }
            self.raise_head(head, &mut out);
        }
        let end = message.last_index.next();
        self.told_end = Some(end);
        self.told = message.block_num.map(|head| Told {
            next_index: end,
            head,
        });
        if self.numbers_anew(end) {
            out.push(Output::Event(SourceEventKind::Restarted));
            self.forget();
            self.ahead.clear();
        }
        if self.front == Front::Unknown {
            self.start_at(end);
            self.front_from_told();
        } else if end >= self.next_index {
            self.known_end = self.known_end.max(end);
            // The head itself may still get operations.
            if let Some(through) = message.block_num.and_then(BlockNumber::previous) {
                self.complete(through);
            }
        }
        self.settle(now, &mut out);
        out.push(Output::Send(ServerMessage::SyncStatus {
            last_index: LastIndex::before(self.next_index),
            status: if self.next_index < self.known_end {
                SyncState::Missing
            } else {
                SyncState::Synced
            },
        }));
        out
    }

    /// Takes back everything from the block of operation `from` on and requests it again, where that
    /// block is still remembered; else only requests.
    pub fn request_missing(&mut self, from: OperationIndex, to: OperationIndex, now: Moment) -> Vec<Output> {
        let mut out = Vec::new();
        let found = self
            .cursors
            .iter()
            .rposition(|cursor| cursor.last_index.next() <= from && from < self.known_end);
        let Some(cursor) = found.and_then(|at| self.cursors.get(at).copied()) else {
            let furthest = from.saturating_add(self.limits.request_operations.saturating_sub(1));
            if from <= to {
                out.push(Output::Send(ServerMessage::RequestMissing {
                    from,
                    to: to.min(furthest),
                }));
            }
            return out;
        };
        self.cursors.retain(|kept| kept.block <= cursor.block);
        self.open = None;
        self.take_back_to(cursor.last_index.next());
        self.front = Front::after(cursor.block);
        self.request = None;
        out.push(Output::Event(SourceEventKind::Restarted));
        self.settle(now, &mut out);
        out
    }

    /// Looks at the clock: gives up a request that brought nothing.
    pub fn tick(&mut self, now: Moment) -> Vec<Output> {
        let mut out = Vec::new();
        if self
            .request
            .is_some_and(|request| request.give_up_at <= now.elapsed)
        {
            self.give_up(&mut out);
            self.settle(now, &mut out);
        }
        out
    }

    /// When [`Assembler::tick`] is due, as time since the session began.
    pub fn next_tick(&self) -> Option<Duration> {
        self.request.map(|request| request.give_up_at)
    }

    /// Whether a source that was heard before has a shorter log now, though its head went on.
    fn numbers_anew(&self, end: OperationIndex) -> bool {
        match (self.front, self.told) {
            (Front::At { next, .. }, Some(told)) => {
                self.taken == 0 && end < self.next_index && told.head >= next
            }
            _ => false,
        }
    }

    fn check_height(&self, block: BlockNumber, now: Moment) -> Result<(), Refusal> {
        let highest =
            BlockNumber::highest_at(now.unix_ms / 1_000).saturating_add(self.limits.clock_skew_blocks);
        if block > highest {
            Err(Refusal::Future { block, highest })
        } else {
            Ok(())
        }
    }

    fn raise_head(&mut self, block: BlockNumber, out: &mut Vec<Output>) {
        if self.head.is_none_or(|head| head < block) {
            self.head = Some(block);
            out.push(Output::Event(SourceEventKind::Head { number: block }));
        }
    }
}

impl Front {
    const fn after(block: BlockNumber) -> Self {
        Self::At {
            next: block.next(),
            below: Below::Complete,
        }
    }
}

fn error(reason: &impl ToString) -> Output {
    Output::Send(ServerMessage::error(reason))
}
