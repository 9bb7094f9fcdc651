//! What to do about holes: request them, wait, give up, and where to start again.

use honeygraph_chain::BlockNumber;

use super::blocks::{NotTaken, OpenBlock};
use super::entry::IndexOrigin;
use super::{Assembler, Below, Front, Markers, Moment, Output, Request, error};
use crate::ingest::message::{OperationIndex, ServerMessage};
use crate::ingest::source::SourceEventKind;

impl Assembler {
    /// Does what has become possible: takes what is next, requests what is missing, closes what is complete.
    pub(super) fn settle(&mut self, now: Moment, out: &mut Vec<Output>) {
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
            let Some(through) = self.complete_through else {
                return;
            };
            match self.close_through(through, now, out) {
                Ok(()) => {
                    self.complete_through = None;
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
                    out.push(error(&format!("operation {index}: {refusal}")));
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

    /// Leaves the hole to the peers and starts at the next complete block.
    pub(super) fn give_up(&mut self, out: &mut Vec<Output>) {
        out.push(Output::Event(SourceEventKind::Restarted));
        self.forget();
        if let Some(first) = self.ahead.first() {
            self.move_to(first);
        } else {
            self.move_to(self.known_end);
            self.front_from_told();
        }
    }

    /// Drops the position, but neither what is held ahead nor what is known of the source.
    pub(super) fn forget(&mut self) {
        self.front = Front::Unknown;
        self.open = None;
        self.request = None;
        self.complete_through = None;
        self.cursors.clear();
        self.recent.clear();
    }

    /// Takes an operation for the first that is known.
    pub(super) fn start_at(&mut self, index: OperationIndex) {
        self.move_to(index);
        self.known_end = index;
    }

    fn move_to(&mut self, index: OperationIndex) {
        self.next_index = index;
        self.recent.clear();
    }

    pub(super) fn take_back_to(&mut self, index: OperationIndex) {
        self.recent.take_back(self.next_index.distance_from(index));
        self.next_index = self.next_index.min(index);
    }

    /// The source told its head and its last index, and that index is the one before ours: what comes next
    /// in a later block is the beginning of that block.
    pub(super) fn front_from_told(&mut self) {
        if let Some(told) = self.told.filter(|told| told.next_index == self.next_index) {
            self.front = Front::At {
                next: told.head.next(),
                below: Below::Told,
            };
        }
    }

    /// Notes that blocks are complete as soon as nothing that the source has is missing.
    pub(super) fn complete(&mut self, through: BlockNumber) {
        if self.front != Front::Unknown {
            self.complete_through = self.complete_through.max(Some(through));
        }
    }
}
