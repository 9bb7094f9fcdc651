//! Blocks, checkpoints and intervals.

use fjall::Readable as _;
use honeygraph_chain::checkpoint::PreviousRoot;
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId, StateDigest};

use super::{Check, CheckPart, Remedy, Row, Table, reason_of, state_place};
use crate::store::chain_walk::{ChainWalk, CheckpointFinding};
use crate::store::layout::{key_number, number_key};
use crate::store::record::json_from_bytes;
use crate::store::{CheckpointRecord, Position, StoredBlock};

/// What the walk over the blocks remembers.
struct Walk<'position> {
    chain: ChainWalk,
    position: Option<&'position Position>,
    /// The last stored block, and the digest beside it.
    last: Option<(BlockNumber, ContentId, Option<StateDigest>)>,
    stored: IntervalSet,
}

impl Check<'_> {
    /// The stored intervals; they have to be sorted runs with a hole between each two.
    pub(super) fn intervals(&mut self) -> IntervalSet {
        let mut have = IntervalSet::new();
        let mut last: Option<BlockRange> = None;
        for row in self.snapshot.iter(&self.keyspaces.have) {
            let (start, end) = match row.into_inner() {
                Ok(row) => row,
                Err(error) => {
                    self.report.unreadable("intervals", error);
                    break;
                }
            };
            let run = key_number(&start).and_then(|start| Ok((start, key_number(&end)?)));
            match run.map(|(start, end)| BlockRange::new(start, end)) {
                Ok(Ok(run)) => {
                    if last.is_some_and(|last| last.end().next() >= run.start()) {
                        let reason = "it touches the one before";
                        self.report
                            .problem(format_args!("interval {run}"), reason, Remedy::Rewrite);
                        self.report.repairable(Row::Have);
                    }
                    have.insert(run);
                    last = Some(run);
                }
                Ok(Err(error)) => {
                    self.report.problem("interval", error, Remedy::Rewrite);
                    self.report.repairable(Row::Have);
                }
                Err(error) => {
                    self.report
                        .problem("interval", reason_of(&error), Remedy::Rewrite);
                    self.report.repairable(Row::Have);
                }
            }
        }
        have
    }

    /// Every block and checkpoint, upwards.
    pub(super) fn chain(&mut self, position: Option<&Position>, have: &IntervalSet) {
        let schedule = position.map_or(CheckpointSchedule::default(), |position| position.schedule);
        let mut walk = Walk {
            chain: match position {
                Some(position) => ChainWalk::new(schedule).applied_to(position.state_height),
                None => ChainWalk::new(schedule),
            },
            position,
            last: None,
            stored: IntervalSet::new(),
        };
        let mut checkpoints = self.snapshot.iter(&self.keyspaces.checkpoints);
        let mut next = self.next_checkpoint(&mut checkpoints);
        let total = have.block_count();
        for row in self.snapshot.iter(&self.keyspaces.blocks) {
            let (key, value) = match row.into_inner() {
                Ok(row) => row,
                Err(error) => {
                    self.report.unreadable("blocks", error);
                    break;
                }
            };
            let number = match key_number(&key) {
                Ok(number) if key.len() == 8 => number,
                _ => {
                    let place = format!("block with key {}", hex::encode(&key));
                    self.report.problem(place, "no such number", Remedy::Forget);
                    self.report.repairable(Row::Remove(Table::Blocks, key.to_vec()));
                    continue;
                }
            };
            while let Some(record) = next.take_if(|record| record.block_num < number) {
                self.checkpoint(&mut walk, &record);
                next = self.next_checkpoint(&mut checkpoints);
            }
            self.block(&mut walk, number, &value);
            self.report.counts.blocks += 1;
            let done = self.report.counts.blocks;
            self.advance(CheckPart::Blocks, done, total.max(done));
        }
        while let Some(record) = next {
            self.checkpoint(&mut walk, &record);
            next = self.next_checkpoint(&mut checkpoints);
        }
        self.compare_intervals(have, &walk.stored);
        if let (Some(position), Some(chain)) = (position, walk.chain.chain())
            && *chain != position.checkpoints
        {
            self.report.problem(
                "position",
                format_args!(
                    "its chain of checkpoints ends with {}, the stored checkpoints with {}",
                    position.checkpoints.link(),
                    chain.link()
                ),
                Remedy::ComputeAgain,
            );
        }
    }

    fn block(&mut self, walk: &mut Walk<'_>, number: BlockNumber, value: &[u8]) {
        walk.stored.insert(BlockRange::single(number));
        let place = format!("block {number}");
        let again = Remedy::FetchAgain(BlockRange::single(number));
        let decoded = StoredBlock::from_bytes(number, value)
            .and_then(|stored| Ok((stored.decode(number)?, stored.digest)));
        let (block, digest) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                self.report.problem(place, reason_of(&error), again);
                walk.chain.skip_block();
                walk.last = None;
                return;
            }
        };
        walk.last = Some((number, block.hash(), digest));
        if let Err(error) = walk.chain.block(&block) {
            // Which of the two is the wrong one is not known here.
            let both =
                BlockRange::new(number.saturating_sub(1), number).unwrap_or(BlockRange::single(number));
            self.report.problem(&place, error, Remedy::FetchAgain(both));
        }
        let Some(position) = walk.position.filter(|position| position.state_height == number) else {
            return;
        };
        if let Some(hash) = position.state_block_hash.filter(|hash| *hash != block.hash()) {
            let reason = format!("its hash is {}, the position says {hash}", block.hash());
            self.report.problem(&place, reason, again);
        }
        if let Some(digest) = digest.filter(|digest| *digest != position.state_digest) {
            let reason = format!(
                "the digest beside it is {digest}, the position says {}",
                position.state_digest
            );
            self.report
                .problem(state_place(position), reason, Remedy::ComputeAgain);
        }
    }

    fn next_checkpoint(&mut self, rows: &mut fjall::Iter) -> Option<CheckpointRecord> {
        loop {
            let (key, value) = match rows.next()?.into_inner() {
                Ok(row) => row,
                Err(error) => {
                    self.report.unreadable("checkpoints", error);
                    return None;
                }
            };
            self.report.counts.checkpoints += 1;
            let place = match key_number(&key) {
                Ok(number) => format!("checkpoint {number}"),
                Err(_) => format!("checkpoint with key {}", hex::encode(&key)),
            };
            match json_from_bytes::<CheckpointRecord>("checkpoint", &value) {
                Ok(record) if number_key(record.block_num) == *key => {
                    if serde_json::to_vec(&record).is_ok_and(|written| written != *value) {
                        let reason = "it is not spelled as it was written";
                        self.report.problem(place, reason, Remedy::ComputeAgain);
                    }
                    return Some(record);
                }
                Ok(record) => {
                    let reason = format!("it is checkpoint {}", record.block_num);
                    self.report.problem(place, reason, Remedy::ComputeAgain);
                }
                Err(error) => self
                    .report
                    .problem(place, reason_of(&error), Remedy::ComputeAgain),
            }
        }
    }

    fn checkpoint(&mut self, walk: &mut Walk<'_>, record: &CheckpointRecord) {
        let number = record.block_num;
        let place = format!("checkpoint {number}");
        match walk.chain.checkpoint(record) {
            CheckpointFinding::Proven => self.report.counts.proven_checkpoints += 1,
            CheckpointFinding::NotComputable => {}
            CheckpointFinding::Mismatch { from, computed } => {
                let period = BlockRange::new(from, number).unwrap_or(BlockRange::single(number));
                let reason = format!(
                    "its content id is {}, blocks {period} compute to {computed}",
                    record.state_hash
                );
                self.report.problem(&place, reason, Remedy::FetchAgain(period));
            }
            CheckpointFinding::OtherBlock { hash } => {
                let reason = format!("its block hash is not that of block {number}, {hash}");
                let again = Remedy::FetchAgain(BlockRange::single(number));
                self.report.problem(&place, reason, again);
            }
            CheckpointFinding::OtherRoot => {
                let reason = "it names another full state than the checkpoints before it";
                self.report.problem(&place, reason, Remedy::ComputeAgain);
            }
        }
        if let (Some((at, _, Some(digest))), Some(named)) = (walk.last, record.state_digest)
            && at == number
            && digest != named
        {
            let reason = format!("its digest is {named}, beside its block stands {digest}");
            self.report.problem(&place, reason, Remedy::ComputeAgain);
        }
        let names_none = record.root == record.state_hash;
        if names_none
            && (record.kind == CheckpointKind::Delta || matches!(record.prev_root, PreviousRoot::Known(_)))
        {
            let reason = "its own content id stands for the full state before it";
            self.report.problem(&place, reason, Remedy::ComputeAgain);
        }
        let index = self
            .snapshot
            .get(&self.keyspaces.checkpoint_ids, record.state_hash.digest());
        let key = number_key(number);
        if !matches!(&index, Ok(Some(found)) if **found == key) {
            let reason = "the index of checkpoints does not lead to it";
            self.report.problem(&place, reason, Remedy::Rewrite);
            self.report.repairable(Row::CheckpointId(record.state_hash, key));
        }
    }

    fn compare_intervals(&mut self, have: &IntervalSet, stored: &IntervalSet) {
        for run in stored.iter() {
            for missing in have.missing_in(run) {
                let reason = "stored, but in no interval";
                self.report
                    .problem(format_args!("blocks {missing}"), reason, Remedy::Rewrite);
                self.report.repairable(Row::Have);
            }
        }
        for run in have.iter() {
            for missing in stored.missing_in(run) {
                let reason = "in an interval, but not stored";
                self.report.problem(
                    format_args!("blocks {missing}"),
                    reason,
                    Remedy::FetchAgain(missing),
                );
            }
        }
    }
}
