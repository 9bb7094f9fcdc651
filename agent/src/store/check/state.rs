//! Leaves and undo.

use fjall::Readable as _;
use honeygraph_chain::state::StateOverlay;
use honeygraph_chain::{BlockNumber, JsonValue, PathKey, StateDigest};

use super::{Check, CheckPart, Remedy, Row, Table, reason_of, state_place};
use crate::store::layout::{key_number, number_key};
use crate::store::record::{leaf_from_bytes, undo_from_bytes};
use crate::store::{Position, View};

/// Leaves that are held at most while undo is replayed.
const MAX_UNDO_LEAVES: usize = 250_000;

impl Check<'_> {
    /// Every leaf: its path, its value, nothing below it; and the digest of all.
    pub(super) fn state(&mut self, position: Option<&Position>) {
        let mut digest = StateDigest::EMPTY;
        let mut last: Option<PathKey> = None;
        let mut unsound = false;
        for row in self.snapshot.iter(&self.keyspaces.state) {
            let (key, value) = match row.into_inner() {
                Ok(row) => row,
                Err(error) => {
                    self.report.unreadable("state", error);
                    unsound = true;
                    break;
                }
            };
            self.report.counts.leaves += 1;
            let done = self.report.counts.leaves;
            self.advance(CheckPart::State, done, 0);
            let key = PathKey::from(key.to_vec());
            let path = match key.to_path() {
                Ok(path) => path,
                Err(error) => {
                    self.report.problem("leaf", error, Remedy::ComputeAgain);
                    unsound = true;
                    continue;
                }
            };
            match leaf_from_bytes(&value) {
                Ok(leaf) => {
                    if leaf.value().to_canonical() != *value {
                        let reason = "its value is not canonical JSON";
                        self.report
                            .problem(format_args!("leaf {path}"), reason, Remedy::ComputeAgain);
                    }
                    let value: &JsonValue = leaf.value();
                    digest = digest.plus(StateDigest::of_leaf(&key, value));
                }
                Err(error) => {
                    let place = format!("leaf {path}");
                    self.report
                        .problem(place, reason_of(&error), Remedy::ComputeAgain);
                    unsound = true;
                }
            }
            // What stands below a leaf comes right behind it.
            if last.as_ref().is_some_and(|last| key.is_at_or_below(last)) {
                let reason = "it stands below another leaf";
                self.report
                    .problem(format_args!("leaf {path}"), reason, Remedy::ComputeAgain);
            }
            last = Some(key);
        }
        let done = self.report.counts.leaves;
        self.advance(CheckPart::State, done, done);
        match position {
            Some(position) if !unsound && digest != position.state_digest => {
                let reason = format!(
                    "its leaves have digest {digest}, the position says {}",
                    position.state_digest
                );
                self.report
                    .problem(state_place(position), reason, Remedy::ComputeAgain);
            }
            None if self.report.counts.leaves > 0 => {
                let reason = "there are leaves, but no position says of which block";
                self.report.problem("state", reason, Remedy::StartAgain);
            }
            _ => {}
        }
    }

    /// Every undo row: it reads, and stands at or below the state height. Replayed from there down, each has to
    /// lead to the digest of the block before. Those below the last irreversible block are kept for a Dgraph that
    /// is behind.
    pub(super) fn undo(&mut self, position: Option<&Position>, view: &View) {
        let mut readable = Vec::new();
        for row in self.snapshot.iter(&self.keyspaces.undo) {
            let (key, value) = match row.into_inner() {
                Ok(row) => row,
                Err(error) => {
                    self.report.unreadable("undo", error);
                    break;
                }
            };
            self.report.counts.undo_rows += 1;
            let number = key_number(&key).unwrap_or_default();
            let place = format!("undo of block {number}");
            let in_place = position.is_some_and(|position| number <= position.state_height);
            let reason = if number_key(number) != *key {
                Some("its key is no block number".to_owned())
            } else if !in_place {
                Some("the block is not applied".to_owned())
            } else {
                undo_from_bytes(number, &value)
                    .err()
                    .map(|error| reason_of(&error))
            };
            if let Some(reason) = reason {
                self.report.problem(place, reason, Remedy::Forget);
                self.report.repairable(Row::Remove(Table::Undo, key.to_vec()));
            } else if readable.last() == number.previous().as_ref() || readable.is_empty() {
                readable.push(number);
            } else {
                readable = vec![number];
            }
        }
        if let Some(position) = position.filter(|position| readable.last() == Some(&position.state_height)) {
            self.replay(position, view, readable.into_iter().rev());
        }
    }

    fn replay(&mut self, position: &Position, view: &View, blocks: impl Iterator<Item = BlockNumber>) {
        let mut overlay = StateOverlay::new(view, position.state_digest);
        for number in blocks {
            let Ok(Some(before)) = view.undo(number) else {
                return;
            };
            if overlay.undo(before).is_err() {
                // The state is damaged, which is said already.
                return;
            }
            let known = number
                .previous()
                .and_then(|before| Some((before, view.block(before).ok().flatten()?)))
                .filter(|(before, block)| block.decode(*before).is_ok())
                .and_then(|(_, block)| block.digest);
            if let Some(known) = known.filter(|known| *known != overlay.digest()) {
                let reason = format!("it leads to digest {}, not to {known}", overlay.digest());
                self.report.problem(
                    format_args!("undo of block {number}"),
                    reason,
                    Remedy::ComputeAgain,
                );
                return;
            }
            if overlay.changed_len() > MAX_UNDO_LEAVES {
                return;
            }
        }
    }
}
