//! The parts that make up one chain: genesis, blocks, checkpoints, states and the final state.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Place, PublishedState, Report, check_state_document, entries, entry};
use crate::JsonValue;
use crate::block::HashedBlock;
use crate::block_number::BlockNumber;
use crate::checkpoint::{CheckpointChain, DeltaWriter};
use crate::content_id::ContentId;
use crate::network::{CheckpointKind, CheckpointSchedule};
use crate::state::MemoryState;
use crate::state_digest::StateDigest;
use crate::state_document::state_content_id;

/// The raw parts of the file that belong together.
#[derive(Default)]
pub(super) struct ChainParts<'file> {
    pub(super) genesis: Option<&'file RawValue>,
    pub(super) blocks: Option<&'file RawValue>,
    pub(super) checkpoints: Option<&'file RawValue>,
    pub(super) states: Option<&'file RawValue>,
    pub(super) final_state: Option<&'file RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Genesis {
    #[serde(flatten)]
    state: PublishedState,
    state_digest: StateDigest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockVector {
    block_num: JsonValue,
    previous_hash: JsonValue,
    operations: JsonValue,
    block_hash: ContentId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckpointVector {
    block_num: BlockNumber,
    kind: CheckpointKind,
    cid: ContentId,
    state_digest: StateDigest,
    document: JsonValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateVector {
    block_num: BlockNumber,
    cid: ContentId,
    state_digest: StateDigest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FinalState {
    block_num: BlockNumber,
    #[serde(flatten)]
    state: PublishedState,
}

/// What the file expects at the blocks, each taken out when the chain reaches its block.
#[derive(Default)]
struct Expectations {
    checkpoints: BTreeMap<BlockNumber, (usize, CheckpointVector)>,
    states: BTreeMap<BlockNumber, Vec<(usize, StateVector)>>,
    final_state: Option<FinalState>,
}

pub(super) fn check_chain(parts: &ChainParts<'_>, report: &mut Report) {
    let expectations = Expectations::read(parts, report);
    let mut walk = Walk {
        report,
        expectations,
        boundaries: match parts.checkpoints {
            Some(_) => Boundaries::Listed,
            None => Boundaries::Scheduled(CheckpointSchedule::default()),
        },
        replica: None,
        previous: None,
    };
    if let Some(raw) = parts.genesis {
        walk.start(raw);
    }
    if let Some(raw) = parts.blocks {
        walk.blocks(raw);
    }
    walk.finish(parts.genesis.is_some() && parts.blocks.is_some());
}

impl Expectations {
    /// Reads them, and checks what stands on its own: the documents.
    fn read(parts: &ChainParts<'_>, report: &mut Report) -> Self {
        let mut expectations = Self::default();
        let checkpoints = parts.checkpoints.map(|raw| entries("checkpoints", raw, report));
        for (index, vector) in checkpoints.unwrap_or_default() {
            let vector: CheckpointVector = vector;
            let place = Place::entry("checkpoints", index).at(vector.block_num);
            check_document_number(&place, &vector.document, vector.block_num, report);
            report.compare(
                place.field("document"),
                &vector.cid,
                &ContentId::of(&vector.document.to_canonical()),
            );
            match expectations.checkpoints.entry(vector.block_num) {
                Entry::Occupied(_) => report.fail(place, "one checkpoint a block", "a second one"),
                Entry::Vacant(vacant) => {
                    vacant.insert((index, vector));
                }
            }
        }
        let states = parts.states.map(|raw| entries("states", raw, report));
        for (index, vector) in states.unwrap_or_default() {
            let vector: StateVector = vector;
            let at_block = expectations.states.entry(vector.block_num).or_default();
            at_block.push((index, vector));
        }
        let place = Place::part("finalState");
        expectations.final_state = parts
            .final_state
            .and_then(|raw| entry(place.clone(), raw, report));
        if let Some(vector) = &expectations.final_state {
            let place = place.at(vector.block_num);
            check_document_number(&place, &vector.state.document, vector.block_num, report);
            check_state_document(&place, &vector.state.document, vector.state.cid, report);
        }
        expectations
    }
}

/// A document of block n starts with n + 1.
fn check_document_number(place: &Place, document: &JsonValue, block: BlockNumber, report: &mut Report) {
    let expected = block.next().to_string();
    let got = match document {
        JsonValue::Array(items) => items.first().map(JsonValue::to_canonical).unwrap_or_default(),
        _ => Vec::new(),
    };
    report.compare(
        place.field("document number"),
        &expected,
        &String::from_utf8_lossy(&got).into_owned(),
    );
}

/// How it is known which blocks are checkpoints.
enum Boundaries {
    /// The part `checkpoints` lists them.
    Listed,
    /// The file has no such part.
    Scheduled(CheckpointSchedule),
}

/// A state that follows the blocks, with its checkpoints.
struct Replica {
    state: MemoryState,
    chain: CheckpointChain,
    delta: DeltaWriter,
}

/// Where the walk stands.
struct Previous {
    number: BlockNumber,
    /// What the next block links to, where that is known.
    link: Option<ContentId>,
}

struct Walk<'report> {
    report: &'report mut Report,
    expectations: Expectations,
    boundaries: Boundaries,
    /// None without a genesis, and from the first block on that could not be applied.
    replica: Option<Replica>,
    previous: Option<Previous>,
}

impl Walk<'_> {
    fn start(&mut self, raw: &RawValue) {
        let place = Place::part("genesis");
        let Some(genesis) = entry::<Genesis>(place.clone(), raw, self.report) else {
            return;
        };
        let PublishedState { document, cid } = genesis.state;
        let Some((covered, state)) = check_state_document(&place, &document, cid, self.report) else {
            return;
        };
        let place = place.at(covered);
        self.report
            .compare(place.field("stateDigest"), &genesis.state_digest, &state.digest());
        let link = ContentId::of(&document.to_canonical());
        let chain = CheckpointChain::from_state(covered, link);
        self.replica = Some(Replica {
            state,
            delta: DeltaWriter::new(&chain),
            chain,
        });
        self.previous = Some(Previous {
            number: covered,
            link: Some(link),
        });
        self.states_at(covered);
    }

    fn blocks(&mut self, raw: &RawValue) {
        let mut expected_index = 0;
        for (index, vector) in entries::<BlockVector>("blocks", raw, self.report) {
            if index != expected_index {
                // A malformed entry was reported and left out: nothing is known beyond it.
                self.replica = None;
                self.previous = None;
            }
            expected_index = index + 1;
            self.block(index, vector);
        }
    }

    fn block(&mut self, index: usize, vector: BlockVector) {
        let place = Place::entry("blocks", index);
        let canonical = JsonValue::object(vec![
            ("blockNum".to_owned(), vector.block_num),
            ("operations".to_owned(), vector.operations),
            ("previousHash".to_owned(), vector.previous_hash),
        ])
        .to_canonical();
        let block = match HashedBlock::from_canonical(canonical) {
            Ok(block) => block,
            Err(error) => {
                self.report.fail(place, "a block", error);
                self.replica = None;
                self.previous = None;
                return;
            }
        };
        let number = block.number();
        let place = place.at(number);
        self.report
            .compare(place.field("blockHash"), &vector.block_hash, &block.hash());
        self.link(&place, &block);
        if let Some(replica) = &mut self.replica {
            match replica.state.apply(&block.block().operations) {
                Ok(_) => {
                    self.report.pass();
                    replica.delta.push(&block.block().operations);
                }
                Err(error) => {
                    self.report
                        .fail(place.field("operations"), "a block that the state takes", error);
                    self.replica = None;
                }
            }
        }
        let link = self.link_after(&block);
        self.previous = Some(Previous { number, link });
        self.states_at(number);
    }

    /// Compares the number and the link of a block with what came before.
    fn link(&mut self, place: &Place, block: &HashedBlock) {
        let number = block.number();
        let Some(previous) = &self.previous else {
            let checkpoint = number
                .previous()
                .and_then(|at| self.expectations.checkpoints.get(&at));
            if let Some((_, checkpoint)) = checkpoint {
                self.report.compare(
                    place.field("previousHash"),
                    &block.previous_hash(),
                    &checkpoint.cid,
                );
            } else {
                self.report.note(
                    &place.field("previousHash"),
                    "taken as given, nothing stands before it",
                );
            }
            return;
        };
        let follows = previous.number.next();
        if number != follows {
            self.report.fail(place.field("blockNum"), follows, number);
            self.replica = None;
            return;
        }
        match &previous.link {
            Some(link) => self
                .report
                .compare(place.field("previousHash"), &block.previous_hash(), link),
            None => self.report.note(
                &place.field("previousHash"),
                "taken as given, the checkpoint before it cannot be recomputed",
            ),
        }
    }

    /// Checks the checkpoint at a block, where there is one, and gives what the next block links to; `None`
    /// where that cannot be known.
    fn link_after(&mut self, block: &HashedBlock) -> Option<ContentId> {
        let number = block.number();
        let listed = self.expectations.checkpoints.remove(&number);
        let kind = match (&listed, &self.boundaries) {
            (Some((_, vector)), _) => Some(vector.kind),
            (None, Boundaries::Scheduled(schedule)) => schedule.kind_at(number),
            (None, Boundaries::Listed) => None,
        };
        let Some(kind) = kind else {
            return Some(block.hash());
        };
        let Some(replica) = &mut self.replica else {
            let given = listed.as_ref().map(|(_, vector)| vector.cid);
            if let Some((index, vector)) = listed {
                self.expectations.checkpoints.insert(number, (index, vector));
            }
            return given;
        };
        let delta = std::mem::replace(&mut replica.delta, DeltaWriter::new(&replica.chain));
        let delta = delta.document(number).unwrap_or_default();
        let computed = match kind {
            CheckpointKind::Delta => Ok(ContentId::of(&delta)),
            CheckpointKind::State => state_content_id(number, &replica.state),
        };
        let place = match &listed {
            Some((index, _)) => Place::entry("checkpoints", *index),
            None => Place::part("checkpoints"),
        }
        .at(number);
        let id = match computed {
            Ok(id) => id,
            Err(error) => {
                self.report.fail(place.field("cid"), "a state document", error);
                self.replica = None;
                return None;
            }
        };
        replica.chain = replica.chain.after(kind, number, id);
        replica.delta = DeltaWriter::new(&replica.chain);
        if let Some((_, vector)) = listed {
            self.report.compare(place.field("cid"), &vector.cid, &id);
            self.report.compare(
                place.field("stateDigest"),
                &vector.state_digest,
                &replica.state.digest(),
            );
        }
        Some(id)
    }

    /// Checks the states that the file expects after a block.
    fn states_at(&mut self, number: BlockNumber) {
        let Some(replica) = &self.replica else {
            return;
        };
        let states = self.expectations.states.remove(&number).unwrap_or_default();
        let is_final = |state: &mut FinalState| state.block_num == number;
        let final_state = self.expectations.final_state.take_if(is_final);
        if states.is_empty() && final_state.is_none() {
            return;
        }
        let computed = state_content_id(number, &replica.state);
        let compare = |place: Place, cid: ContentId, report: &mut Report| match &computed {
            Ok(id) => report.compare(place, &cid, id),
            Err(error) => report.fail(place, cid, error),
        };
        for (index, vector) in states {
            let place = Place::entry("states", index).at(number);
            compare(place.field("cid"), vector.cid, self.report);
            self.report.compare(
                place.field("stateDigest"),
                &vector.state_digest,
                &replica.state.digest(),
            );
        }
        if let Some(vector) = final_state {
            let place = Place::part("finalState").at(number);
            compare(place.field("state"), vector.state.cid, self.report);
        }
    }

    /// Reports what the chain did not reach.
    fn finish(self, has_chain: bool) {
        let report = self.report;
        let missed = "a block that the chain does not reach";
        for (index, vectors) in self.expectations.states.into_values().flatten() {
            let place = Place::entry("states", index).at(vectors.block_num);
            report.fail(place, "a state that the file's chain reaches", missed);
        }
        for (index, vector) in self.expectations.checkpoints.into_values() {
            let place = Place::entry("checkpoints", index).at(vector.block_num);
            if has_chain {
                report.fail(place, "a checkpoint that the file's chain reaches", missed);
            } else if vector.kind == CheckpointKind::State {
                let document = vector.document.to_canonical();
                match MemoryState::from_document(document.as_slice()) {
                    Ok((_, state)) => {
                        let place = place.field("stateDigest");
                        report.compare(place, &vector.state_digest, &state.digest());
                    }
                    Err(error) => report.fail(place.field("document"), "[n+1, state]", error),
                }
            } else {
                report.note(
                    &place,
                    "checked against its document alone, the file has no chain",
                );
            }
        }
        if let Some(vector) = self.expectations.final_state {
            let place = Place::part("finalState").at(vector.block_num);
            if has_chain {
                report.fail(place, "a state that the file's chain reaches", missed);
            } else {
                report.note(
                    &place,
                    "checked against its document alone, the file has no chain",
                );
            }
        }
    }
}
