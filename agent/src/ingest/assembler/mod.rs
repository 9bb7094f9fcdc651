//! Makes complete blocks out of what one honeycomb session sends. Pure: messages and times go in, answers
//! and events come out.
//!
//! The source's running operation index is the thread (`docs/protocol.md`, section 5): as long as it goes
//! up by one, nothing was lost, and blocks in between without operations are truly empty. A jump is a hole:
//! what follows is held, the hole is requested, and given up when it is too large or does not arrive; then
//! the source starts again at its next complete block and peers have what was left out. A block is handed
//! over only when its beginning and its end are certain.

mod ahead;
mod entry;
mod limits;
mod recent;
#[cfg(test)]
mod tests;

pub use limits::AssemblerLimits;

use std::collections::VecDeque;
use std::time::Duration;

use honeygraph_chain::operation::OperationType;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId, Operation, Operations};

use self::ahead::{Ahead, Held};
use self::entry::{Entry, IndexOrigin};
use self::recent::Recent;
use super::message::{
    Ack, CheckpointMessage, IndexedOperation, LastIndex, LogEntry, OperationIndex, ServerMessage, SyncState,
    SyncStatusMessage,
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
    completion: Option<Completion>,
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

/// The block that is being gathered; its number is the front's.
#[derive(Debug)]
struct OpenBlock {
    number: BlockNumber,
    first_index: OperationIndex,
    operations: Vec<Operation>,
    /// Where the last operation's index comes from.
    last_origin: IndexOrigin,
    weight: usize,
    timestamp_ms: Option<u64>,
}

/// An outstanding `request_missing`.
#[derive(Debug, Clone, Copy)]
struct Request {
    to: OperationIndex,
    give_up_at: Duration,
}

/// Blocks that are complete as soon as nothing below an index is missing.
#[derive(Debug, Clone, Copy)]
struct Completion {
    through: BlockNumber,
    once_next_is: OperationIndex,
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

/// Why an operation is not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("block {block} is above {highest}, the highest that can exist now")]
    Future {
        block: BlockNumber,
        highest: BlockNumber,
    },
    #[error("block {block} is already complete, the source is at block {front}")]
    Late { block: BlockNumber, front: BlockNumber },
    #[error("it differs from what was sent before with this index")]
    Contradiction,
    #[error("too many operations wait for a hole before them; it will be requested again")]
    NoRoom,
}

/// A block that ends inside a batch.
#[derive(Debug, Clone, Copy)]
struct Unclosed {
    number: BlockNumber,
    first_index: OperationIndex,
}

enum NotTaken {
    Refused(Refusal),
    Unclosed(Unclosed, Entry),
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
            completion: None,
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
        if entries.len() > self.limits.batch_operations {
            let most = self.limits.batch_operations;
            out.push(error(format!(
                "a batch of {} operations; send at most {most}",
                entries.len()
            )));
            return out;
        }
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
            out.push(error("checkpoint 0 covers no block".to_owned()));
            return out;
        };
        if let Err(refusal) = self.check_height(covered, now) {
            out.push(error(format!("checkpoint {}: {refusal}", message.block_num)));
            return out;
        }
        out.push(Output::Event(SourceEventKind::Checkpoint {
            covered,
            id: message.hash,
            previous: message.prev_hash,
        }));
        self.raise_head(covered, &mut out);
        self.complete(covered, self.known_end);
        self.settle(now, &mut out);
        out
    }

    /// Takes a `sync_status` and answers it.
    pub fn sync_status(&mut self, message: SyncStatusMessage, now: Moment) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(head) = message.block_num {
            if let Err(refusal) = self.check_height(head, now) {
                out.push(error(format!("sync_status: {refusal}")));
                return out;
            }
            self.raise_head(head, &mut out);
        }
        let end = message.last_index.next();
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
            self.move_to(end);
            self.known_end = end;
            self.front_from_told();
        } else if end >= self.next_index {
            self.known_end = self.known_end.max(end);
            // The head itself may still get operations.
            if let Some(through) = message.block_num.and_then(BlockNumber::previous) {
                self.complete(through, end);
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

    fn indexed(&mut self, message: IndexedOperation, now: Moment, out: &mut Vec<Output>) {
        let IndexedOperation {
            index,
            block,
            operation,
            fork_hash,
            previous_checkpoint,
            timestamp_ms,
        } = message;
        let entry = Entry {
            operation,
            block,
            timestamp_ms,
            origin: IndexOrigin::Stated,
        };
        if self.place(index, entry, now, out)
            && let Some(last) = fork_hash
        {
            self.report(block, last, previous_checkpoint, out);
        }
    }

    fn bare_marker(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.markers = Markers::Bare;
        // There is no empty batch: after another marker its place cannot be told.
        let Some(previous) = self
            .previous
            .filter(|previous| previous.kind != OperationType::WriteMarker)
        else {
            out.push(error("\"W\" without an operation before it".to_owned()));
            return;
        };
        let index = previous.index.next();
        let requested = self.request.is_some_and(|request| index <= request.to);
        let entry = Entry {
            operation: Operation::WriteMarker,
            block: previous.block,
            timestamp_ms: None,
            origin: if requested {
                IndexOrigin::Stated
            } else {
                IndexOrigin::Assumed
            },
        };
        self.place(index, entry, now, out);
    }

    /// Puts an operation where it belongs and acknowledges it. Says whether it was taken.
    fn place(&mut self, index: OperationIndex, entry: Entry, now: Moment, out: &mut Vec<Output>) -> bool {
        let sent = Previous {
            index,
            block: entry.block,
            kind: entry.operation.kind(),
        };
        let placed = self
            .check_height(entry.block, now)
            .and_then(|()| self.try_place(index, entry, now, out));
        let success = placed.is_ok();
        if let Err(refusal) = placed {
            self.previous = None;
            out.push(error(format!("operation {index}: {refusal}")));
        } else {
            self.previous = Some(sent);
            self.raise_head(sent.block, out);
        }
        out.push(Output::Send(ServerMessage::Ack(Ack::Operation {
            index,
            success,
        })));
        success
    }

    fn try_place(
        &mut self,
        index: OperationIndex,
        entry: Entry,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusal> {
        if self.front == Front::Unknown {
            self.move_to(index);
            self.known_end = index;
        } else if index < self.next_index && !self.is_repeat(index, &entry)? {
            if !self.is_told() {
                out.push(Output::Event(SourceEventKind::Restarted));
            }
            self.forget();
            self.ahead.clear();
            self.move_to(index);
            self.known_end = index;
        } else if index < self.next_index {
            return Ok(());
        }
        self.known_end = self.known_end.max(index.next());
        if index > self.next_index {
            return match self.ahead.hold(index, entry) {
                Held::Kept => Ok(()),
                Held::Dropped => Err(Refusal::NoRoom),
                Held::Contradicts => Err(Refusal::Contradiction),
            };
        }
        match self.take(entry, now, out) {
            Ok(()) => Ok(()),
            Err(NotTaken::Refused(refusal)) => Err(refusal),
            Err(NotTaken::Unclosed(unclosed, entry)) => {
                self.ahead.hold(index, entry);
                self.refuse_block(unclosed, out);
                Ok(())
            }
        }
    }

    /// Whether an operation below the next index was heard before. If not, the source counts anew.
    fn is_repeat(&self, index: OperationIndex, entry: &Entry) -> Result<bool, Refusal> {
        if let Some(digest) = self.recent.get(index, self.next_index) {
            return if *digest == entry.digest() {
                Ok(true)
            } else {
                Err(Refusal::Contradiction)
            };
        }
        let Front::At { next, below } = self.front else {
            return Ok(false);
        };
        match below {
            Below::Told => Ok(false),
            Below::Partial => Ok(true),
            Below::Complete if entry.block < next || self.is_open(entry.block) => Ok(true),
            Below::Complete if self.taken == 0 => Ok(false),
            Below::Complete => Err(Refusal::Contradiction),
        }
    }

    fn is_told(&self) -> bool {
        matches!(
            self.front,
            Front::At {
                below: Below::Told,
                ..
            }
        )
    }

    fn is_open(&self, number: BlockNumber) -> bool {
        self.open.as_ref().is_some_and(|open| open.number == number)
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

    /// Takes the operation whose index is next.
    fn take(&mut self, entry: Entry, now: Moment, out: &mut Vec<Output>) -> Result<(), NotTaken> {
        let (next, below) = match self.front {
            Front::At { next, below } => (next, below),
            Front::Unknown if self.next_index == OperationIndex::default() => (entry.block, Below::Complete),
            Front::Unknown => (entry.block.next(), Below::Partial),
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
            out.push(error(format!(
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
    fn close_through(
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
    fn refuse_block(&mut self, unclosed: Unclosed, out: &mut Vec<Output>) {
        let Unclosed { number, first_index } = unclosed;
        let last = LastIndex::before(self.next_index).0.unwrap_or_default();
        out.push(error(format!(
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

    /// Leaves the hole to the peers and starts at the next complete block.
    fn give_up(&mut self, out: &mut Vec<Output>) {
        out.push(Output::Event(SourceEventKind::Restarted));
        self.forget();
        match self.ahead.first() {
            Some(first) => self.move_to(first),
            None => {
                self.move_to(self.known_end);
                self.front_from_told();
            }
        }
    }

    /// Drops the position, but neither what is held ahead nor what is known of the source.
    fn forget(&mut self) {
        self.front = Front::Unknown;
        self.open = None;
        self.request = None;
        self.completion = None;
        self.cursors.clear();
        self.recent.clear();
    }

    fn move_to(&mut self, index: OperationIndex) {
        self.next_index = index;
        self.recent.clear();
    }

    fn take_back_to(&mut self, index: OperationIndex) {
        self.recent.take_back(self.next_index.distance_from(index));
        self.next_index = self.next_index.min(index);
    }

    /// The source told its head and its last index, and that index is the one before ours: what comes next
    /// in a later block is the beginning of that block.
    fn front_from_told(&mut self) {
        if let Some(told) = self.told.filter(|told| told.next_index == self.next_index) {
            // With nothing logged yet, the head has no operations that we could have missed.
            let nothing_logged = told.next_index == OperationIndex::default();
            self.front = Front::At {
                next: if nothing_logged {
                    told.head
                } else {
                    told.head.next()
                },
                below: Below::Told,
            };
        }
    }

    fn complete(&mut self, through: BlockNumber, once_next_is: OperationIndex) {
        if self.front == Front::Unknown {
            return;
        }
        let before = self.completion.unwrap_or(Completion {
            through,
            once_next_is,
        });
        self.completion = Some(Completion {
            through: before.through.max(through),
            once_next_is: before.once_next_is.max(once_next_is),
        });
    }

    /// Does what has become possible: takes what is next, requests what is missing, closes what is complete.
    fn settle(&mut self, now: Moment, out: &mut Vec<Output>) {
        loop {
            self.take_from_ahead(now, out);
            if self.next_index < self.known_end {
                self.doubt_last_marker();
                let end = self.ahead.first().unwrap_or(self.known_end);
                if end.distance_from(self.next_index) > self.limits.hole_operations {
                    self.give_up(out);
                    continue;
                }
                self.request_hole(end, now, out);
                return;
            }
            self.request = None;
            let Some(completion) = self
                .completion
                .filter(|completion| completion.once_next_is <= self.next_index)
            else {
                return;
            };
            match self.close_through(completion.through, now, out) {
                Ok(()) => {
                    self.completion = None;
                    return;
                }
                Err(unclosed) => self.refuse_block(unclosed, out),
            }
        }
    }

    fn take_from_ahead(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.ahead.drop_below(self.next_index);
        while let Some(entry) = self.ahead.remove(self.next_index) {
            let index = self.next_index;
            match self.take(entry, now, out) {
                Ok(()) => {}
                Err(NotTaken::Refused(refusal)) => {
                    out.push(error(format!("operation {index}: {refusal}")));
                    return;
                }
                Err(NotTaken::Unclosed(unclosed, entry)) => {
                    self.ahead.hold(index, entry);
                    self.refuse_block(unclosed, out);
                }
            }
        }
    }

    /// A hole right after a bare `"W"` may also lie right before it: then its index is wrong. Those that
    /// came by request are in order.
    fn doubt_last_marker(&mut self) {
        if let Some(open) = &mut self.open
            && open.last_origin == IndexOrigin::Assumed
            && let Some(index) = self.next_index.previous()
        {
            open.operations.pop();
            open.last_origin = IndexOrigin::Stated;
            self.take_back_to(index);
            self.request = None;
        }
    }

    /// Requests the hole that ends before `end`, in pieces, one at a time.
    fn request_hole(&mut self, end: OperationIndex, now: Moment, out: &mut Vec<Output>) {
        if self.request.is_some_and(|request| self.next_index <= request.to) {
            return;
        }
        let inside_batch = self.open.as_ref().is_some_and(OpenBlock::is_inside_batch);
        let from = match self.markers {
            // So that a bare marker comes after the operation that tells its place.
            Markers::Bare if inside_batch => self.next_index.previous().unwrap_or_default(),
            _ => self.next_index,
        };
        let furthest = self
            .next_index
            .saturating_add(self.limits.request_operations.saturating_sub(1));
        let to = end.previous().unwrap_or_default().min(furthest);
        self.request = Some(Request {
            to,
            give_up_at: now.elapsed.saturating_add(self.limits.request_timeout),
        });
        out.push(Output::Send(ServerMessage::RequestMissing { from, to }));
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

    /// Passes on what the source calls its last checkpoint, once a change and at most once a block.
    fn report(
        &mut self,
        at: BlockNumber,
        last: ContentId,
        previous: Option<ContentId>,
        out: &mut Vec<Output>,
    ) {
        let news = self
            .report
            .is_none_or(|known| known.at != at && (known.last, known.previous) != (last, previous));
        if news {
            self.report = Some(Report { at, last, previous });
            out.push(Output::Event(SourceEventKind::CheckpointReport {
                at,
                last,
                previous,
            }));
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

    fn is_inside_batch(&self) -> bool {
        self.operations
            .last()
            .is_some_and(|operation| *operation != Operation::WriteMarker)
    }
}

fn error(error: String) -> Output {
    Output::Send(ServerMessage::Error { error })
}
