mod agreement;
mod ahead;
mod documents;
mod forks;
mod history;
mod peers;
mod previous_root;
mod schedule;
mod sources;
mod start;
mod state_rules;

use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::checkpoint::{Anchor, DeltaDocument, PreviousRoot};
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::peer::{PeerFault, PeerId};
use honeygraph_chain::quorum::{VoterId, Voters};
use honeygraph_chain::{BlockRange, JsonValue, Operation, Operations, Path};

use super::*;
use crate::ingest::{SessionId, SourceEvent, SourceEventKind};
use crate::store::StoredBlock;
use crate::test_chain::{Home, at, block_event, chain, number, settings};

/// A time at which every block of the vectors is plausible.
const NOW: u64 = 1_700_000_000;

fn peer(name: &str) -> PeerId {
    name.parse().unwrap()
}

fn source(name: &str) -> SourceId {
    name.parse().unwrap()
}

fn event(replica: &mut Replica, from: &str, event: SourceEventKind) {
    replica
        .on_source(
            SourceEvent {
                source: source(from),
                event,
            },
            NOW,
        )
        .unwrap();
}

/// A source sends the blocks at these places of the chain.
fn send(replica: &mut Replica, from: &str, places: std::ops::Range<usize>) {
    for fetched in &chain().blocks[places] {
        event(replica, from, block_event(fetched.block.block()));
    }
}

fn report(replica: &mut Replica, from: &str, checkpoint: usize) {
    let checkpoint = &chain().checkpoints[checkpoint];
    let kind = SourceEventKind::Checkpoint {
        covered: checkpoint.block_num,
        id: checkpoint.cid,
        previous: None,
    };
    event(replica, from, kind);
}

fn marked(path: &str, value: f64) -> Operations {
    let put = Operation::Put {
        path: Path::from_slashed(path),
        data: JsonValue::Number(value),
    };
    Operations::new(vec![put, Operation::WriteMarker]).unwrap()
}

fn assert_equals_vectors(replica: &Replica, through: usize) {
    let position = replica.position().unwrap();
    assert_eq!(position.state_height, at(through));
    assert_eq!(
        position.state_block_hash,
        Some(chain().blocks[through].block.hash())
    );
    for checkpoint in &chain().checkpoints {
        if (position.history_start..=position.state_height).contains(&checkpoint.block_num) {
            let record = replica
                .store()
                .view()
                .checkpoint(checkpoint.block_num)
                .unwrap()
                .unwrap();
            assert_eq!(
                (record.state_hash, record.state_digest),
                (checkpoint.cid, Some(checkpoint.state_digest))
            );
        }
    }
}

/// The blocks at these places as a peer tells them that changed one and linked the rest to it.
fn lie(places: std::ops::Range<usize>, wrong: usize) -> Vec<FetchedBlock> {
    let mut link = None;
    let mut lie = Vec::new();
    for place in places {
        let honest = &chain().blocks[place];
        let mut block = honest.block.block().clone();
        if place == wrong {
            block.operations = marked("balances/thief", 1_000_000.0);
        }
        if let Some(link) = link {
            block.previous_hash = link;
        }
        let block = HashedBlock::from(block);
        link = (place >= wrong).then(|| block.hash());
        lie.push(FetchedBlock {
            block,
            timestamp_ms: honest.timestamp_ms,
        });
    }
    lie
}

/// The anchor of a checkpoint of the chain.
fn honest_anchor(checkpoint: usize) -> Anchor {
    let honest = &chain().checkpoints[checkpoint];
    let place = (0..500).find(|place| at(*place) == honest.block_num).unwrap();
    Anchor {
        block_num: honest.block_num,
        block_hash: chain().blocks[place].block.hash(),
        state_hash: honest.cid,
        state_digest: honest.state_digest,
    }
}

/// Blocks of somebody's own on top of what a replica has.
fn chained_on(replica: &Replica, count: usize) -> Vec<FetchedBlock> {
    let mut stage_tip = replica.running.as_ref().unwrap().tip.clone();
    let mut blocks = Vec::new();
    let position = replica.position().unwrap().clone();
    let mut stage = Stage::new(
        CommittedState::of(replica.store()).unwrap(),
        stage_tip.clone(),
        &position,
    );
    for _ in 0..count {
        let block = HashedBlock::from(Block {
            number: stage_tip.number.next(),
            previous_hash: stage_tip.link(),
            operations: marked("stats/mark", 7.0),
        });
        stage
            .push(&block, 0, Provenance::Local, &position.schedule, None)
            .unwrap();
        stage_tip = stage.tip.clone();
        blocks.push(FetchedBlock {
            block,
            timestamp_ms: 0,
        });
    }
    blocks
}

/// The file of a delta document of the chain.
fn delta_file(home: &Home, checkpoint: usize) -> (ContentId, std::path::PathBuf) {
    let delta = &chain().checkpoints[checkpoint];
    let name = format!("{}.json", delta.cid);
    (delta.cid, home.file(&name, &delta.document.to_canonical()))
}

fn documents(home: &Home) -> StartDocuments {
    let checkpoints = &chain().checkpoints;
    StartDocuments {
        state: home.file("state.json", &checkpoints[2].document.to_canonical()),
        state_id: checkpoints[2].cid,
        prev_root: PreviousRoot::Known(chain().genesis.0),
        deltas: vec![delta_file(home, 3)],
        anchor: None,
    }
}

/// Settings with voters of weight 1.
fn with_voters(names: &[&str]) -> ReplicaSettings {
    let voters = names.iter().map(|name| (VoterId((*name).to_owned()), 1));
    ReplicaSettings {
        voters: Voters::new(voters),
        ..settings()
    }
}

fn assert_sound(replica: &mut Replica) {
    replica.settle().unwrap();
    let report = crate::store::check::check(replica.store(), &mut |_| ());
    assert!(report.is_sound(), "{:?}", report.problems());
}
