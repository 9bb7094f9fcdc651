//! Finds the place of an operation: next, ahead, heard before, or refused.

use honeygraph_chain::operation::OperationType;
use honeygraph_chain::{BlockNumber, ContentId, Operation};

use super::ahead::Held;
use super::blocks::NotTaken;
use super::entry::{Entry, IndexOrigin};
use super::{Assembler, Below, Front, Markers, Moment, Output, Previous, Report, error};
use crate::ingest::message::{Ack, IndexedOperation, OperationIndex, ServerMessage};
use crate::ingest::source::SourceEventKind;

/// Why an operation is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
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

impl Assembler {
    pub(super) fn indexed(&mut self, message: IndexedOperation, now: Moment, out: &mut Vec<Output>) {
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

    pub(super) fn bare_marker(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.markers = Markers::Bare;
        // There is no empty batch: after another marker its place cannot be told.
        let Some(previous) = self
            .previous
            .filter(|previous| previous.kind != OperationType::WriteMarker)
        else {
            out.push(error(&"\"W\" without an operation before it"));
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
            out.push(error(&format!("operation {index}: {refusal}")));
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
            self.start_at(index);
        } else if index < self.next_index {
            if self.is_repeat(index, &entry)? {
                return Ok(());
            }
            if !self.is_told() {
                out.push(Output::Event(SourceEventKind::Restarted));
            }
            self.forget();
            self.ahead.clear();
            self.start_at(index);
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
