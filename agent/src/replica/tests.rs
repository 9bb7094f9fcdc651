use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::checkpoint::{Anchor, DeltaDocument, PreviousRoot};
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::peer::{PeerFault, PeerId};
use honeygraph_chain::quorum::{VoterId, Voters};
use honeygraph_chain::{BlockRange, JsonValue, Operation, Operations, Path};

use super::*;
use crate::ingest::{LastIndex, SessionId, SourceEvent, SourceEventKind};
use crate::store::StoredBlock;
use crate::test_chain::{Home, at, chain, number, settings};

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

fn block_event(block: &Block) -> SourceEventKind {
    SourceEventKind::Block {
        number: block.number,
        operations: block.operations.clone(),
        timestamp_ms: 5,
        cursor: SourceCursor {
            last_index: LastIndex(None),
            block: block.number,
        },
    }
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

#[test]
fn the_published_chain_is_reproduced_from_peers() {
    let home = Home::new();
    let mut replica = home.started(settings());
    for run in chain().blocks.chunks(77) {
        let outcome = replica.extend(&peer("a"), run).unwrap();
        let last = run.last().unwrap().block.number();
        assert_eq!(
            outcome,
            ExtendOutcome::Accepted {
                applied: last,
                committed: last
            }
        );
    }
    assert_equals_vectors(&replica, 499);
    drop(replica);
    let reopened = home.open(settings());
    assert_equals_vectors(&reopened, 499);
    assert_eq!(reopened.writer.have().block_count(), 500);
}

#[test]
fn delivering_again_changes_nothing() {
    let home = Home::new();
    let mut replica = home.started(settings());
    send(&mut replica, "one", 0..50);
    let before = replica.position().cloned();
    assert_eq!(
        replica.extend(&peer("a"), &chain().blocks[0..20]).unwrap(),
        ExtendOutcome::NotNext { next: at(50) }
    );
    send(&mut replica, "one", 0..50);
    send(&mut replica, "two", 10..50);
    assert_eq!(replica.position().cloned(), before);
}

#[test]
fn a_lie_in_a_proven_period_commits_nothing_and_names_the_liar() {
    let home = Home::new();
    let mut replica = home.started(settings());
    report(&mut replica, "one", 0);
    report(&mut replica, "one", 1);
    let outcome = replica.extend(&peer("liar"), &lie(0..150, 120)).unwrap();
    // The first period is proven by its checkpoint, the second waits for its own.
    assert_eq!(
        outcome,
        ExtendOutcome::Accepted {
            applied: at(149),
            committed: at(99)
        }
    );
    let outcome = replica
        .extend(&peer("honest"), &lie(100..200, 120)[50..])
        .unwrap();
    let ExtendOutcome::Rejected {
        discarded,
        fault,
        suspects,
        ..
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (discarded.start(), fault),
        (at(100), PeerFault::CheckpointMismatch)
    );
    assert_eq!(suspects, [peer("honest"), peer("liar")]);
    assert_eq!(replica.position().unwrap().state_height, at(99));
    assert_eq!(replica.status().counters.state_hash_mismatches, 1);
    replica
        .extend(&peer("honest"), &chain().blocks[100..500])
        .unwrap();
    assert_equals_vectors(&replica, 499);
}

#[test]
fn a_lie_near_the_head_is_taken_back_when_its_checkpoint_is_known() {
    let home = Home::new();
    let mut replica = home.started(settings());
    replica.extend(&peer("liar"), &lie(0..60, 30)).unwrap();
    assert_eq!(replica.position().unwrap().state_height, at(59));
    report(&mut replica, "one", 0);
    let outcome = replica.extend(&peer("liar"), &lie(0..100, 30)[60..]).unwrap();
    assert!(matches!(
        outcome,
        ExtendOutcome::Rejected {
            fault: PeerFault::CheckpointMismatch,
            ..
        }
    ));
    assert_eq!(replica.position().unwrap().state_height.next(), at(0));
    replica.extend(&peer("honest"), &chain().blocks[0..500]).unwrap();
    assert_equals_vectors(&replica, 499);
}

#[test]
fn a_broken_link_keeps_what_stands_before_it() {
    let home = Home::new();
    let mut replica = home.started(settings());
    let mut blocks = chain().blocks[0..20].to_vec();
    blocks[10] = FetchedBlock {
        block: blocks[10].block.clone().relinked(blocks[3].block.hash()),
        timestamp_ms: 0,
    };
    let outcome = replica.extend(&peer("a"), &blocks).unwrap();
    assert!(
        matches!(
            outcome,
            ExtendOutcome::Rejected {
                fault: PeerFault::BrokenLink,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(replica.position().unwrap().state_height, at(9));
}

#[test]
fn blocks_that_wait_for_their_checkpoint_give_way_where_the_next_does_not_link_to_them() {
    let home = Home::new();
    let mut replica = home.started(settings());
    report(&mut replica, "one", 0);
    replica.extend(&peer("liar"), &lie(0..60, 30)).unwrap();
    assert_eq!(replica.position().unwrap().state_height.next(), at(0));
    let outcome = replica.extend(&peer("honest"), &chain().blocks[60..100]).unwrap();
    let ExtendOutcome::Rejected {
        discarded,
        fault: PeerFault::BrokenLink,
        suspects,
        evidence,
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    // Either of the two may be the liar; what each gave is known.
    assert_eq!((discarded.start(), discarded.end()), (at(0), at(60)));
    assert_eq!(suspects, [peer("honest"), peer("liar")]);
    assert_eq!(evidence.len(), 60);
    replica.extend(&peer("honest"), &chain().blocks[0..500]).unwrap();
    assert_equals_vectors(&replica, 499);
}

/// A block in the place of one of the chain that puts a leaf where a subtree stands.
fn broken(place: usize) -> Block {
    Block {
        operations: marked("balances", 1.0),
        ..chain().blocks[place].block.block().clone()
    }
}

#[test]
fn a_block_that_breaks_the_state_rules_is_refused() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("one".to_owned()), 1)]);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    let broken = broken(0);
    let fetched = FetchedBlock {
        block: HashedBlock::from(broken.clone()),
        timestamp_ms: 0,
    };
    let outcome = replica.extend(&peer("a"), &[fetched]).unwrap();
    assert!(matches!(
        outcome,
        ExtendOutcome::Rejected {
            fault: PeerFault::BreaksState,
            ..
        }
    ));
    // From the only voter it stops the chain there, says why, and reading goes on.
    event(&mut replica, "one", block_event(&broken));
    let halted = replica.position().unwrap().halted.clone().unwrap();
    assert!(halted.contains("a leaf would stand at `balances`"), "{halted}");
    assert_eq!(
        replica.extend(&peer("a"), &chain().blocks[0..5]).unwrap(),
        ExtendOutcome::Halted
    );
}

#[test]
fn a_source_that_breaks_the_state_rules_is_set_aside_and_the_others_go_on() {
    let home = Home::new();
    let voters = ["one", "two", "three"].map(|name| (VoterId(name.to_owned()), 1));
    let voters = Voters::new(voters);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    send(&mut replica, "one", 0..10);
    event(&mut replica, "one", block_event(&broken(10)));
    send(&mut replica, "one", 11..120);
    // What it computes to is measured by nobody else.
    let wrong = SourceEventKind::Checkpoint {
        covered: at(99),
        id: chain().genesis.0,
        previous: None,
    };
    event(&mut replica, "one", wrong);
    assert_eq!(replica.position().unwrap().halted, None);
    assert_equals_vectors(&replica, 9);
    assert_eq!(replica.network_head(), None);
    let status = replica.status();
    let reason = status.sources[0].set_aside.as_deref().unwrap();
    assert!(reason.contains("a leaf would stand at `balances`"), "{reason}");
    assert_eq!(status.counters.sources_set_aside, 1);
    assert!(replica.take_outbox().iter().any(|(to, message)| {
        *to == source("one") && matches!(message, SourceCommand::Refuse(text) if text.contains("balances"))
    }));
    send(&mut replica, "two", 10..30);
    replica.extend(&peer("a"), &chain().blocks[30..150]).unwrap();
    assert_equals_vectors(&replica, 149);
    // A new session starts anew, where its log was taken last.
    event(&mut replica, "one", SourceEventKind::Disconnected);
    let cursor: SourceCursor = replica.store().view().source_cursor("one").unwrap().unwrap();
    assert_eq!(cursor.block, at(9));
    send(&mut replica, "one", 10..200);
    assert_equals_vectors(&replica, 199);
    assert_eq!(replica.status().sources[0].set_aside, None);
}

#[test]
fn a_block_that_most_of_the_weight_stands_on_and_that_breaks_the_state_rules_halts() {
    let home = Home::new();
    let voters = ["one", "two", "three"].map(|name| (VoterId(name.to_owned()), 1));
    let voters = Voters::new(voters);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    for name in ["one", "two"] {
        send(&mut replica, name, 0..10);
        assert_eq!(replica.position().unwrap().halted, None);
        event(&mut replica, name, block_event(&broken(10)));
    }
    let halted = replica.position().unwrap().halted.clone().unwrap();
    assert!(halted.contains("a leaf would stand at `balances`"), "{halted}");
}

#[test]
fn an_agreed_block_that_breaks_the_state_rules_halts() {
    let home = Home::new();
    let voters = ["peer", "other", "one"].map(|name| (VoterId(name.to_owned()), 1));
    let voters = Voters::new(voters);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    send(&mut replica, "one", 0..99);
    let broken = HashedBlock::from(broken(99));
    for voter in ["peer", "other"] {
        let anchor = Anchor {
            block_num: at(99),
            block_hash: broken.hash(),
            state_hash: chain().checkpoints[0].cid,
            state_digest: chain().checkpoints[0].state_digest,
        };
        replica.on_vote(VoterId(voter.to_owned()), anchor).unwrap();
    }
    event(&mut replica, "one", block_event(broken.block()));
    let halted = replica.position().unwrap().halted.clone().unwrap();
    assert!(halted.contains("a leaf would stand at `balances`"), "{halted}");
}

#[test]
fn sources_on_a_fork_that_breaks_the_state_rules_are_set_aside() {
    let home = Home::new();
    let voters = ["one", "two", "three", "four", "five"].map(|name| (VoterId(name.to_owned()), 1));
    let voters = Voters::new(voters);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    send(&mut replica, "one", 0..40);
    let broken = broken(20);
    for name in ["two", "three"] {
        send(&mut replica, name, 0..20);
        event(&mut replica, name, block_event(&broken));
    }
    assert_equals_vectors(&replica, 39);
    let aside = |name: &str, replica: &Replica| {
        let status = replica.status();
        let source = status
            .sources
            .iter()
            .find(|source| source.source == name)
            .cloned();
        source.unwrap().set_aside.is_some()
    };
    assert!(aside("two", &replica) && aside("three", &replica) && !aside("one", &replica));
    send(&mut replica, "two", 21..60);
    send(&mut replica, "one", 40..60);
    assert_equals_vectors(&replica, 59);
}

#[test]
fn a_source_that_did_not_fit_a_false_chain_is_taken_again_when_that_is_gone() {
    let home = Home::new();
    let voters = ["one", "peer", "other"].map(|name| (VoterId(name.to_owned()), 1));
    let voters = Voters::new(voters);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    send(&mut replica, "one", 0..30);
    let mut lied = lie(30..31, 30);
    lied[0].block = HashedBlock::from(Block {
        operations: marked("stats/mark", 1.0),
        ..lied[0].block.block().clone()
    });
    replica.extend(&peer("liar"), &lied).unwrap();
    // On the false chain a leaf stands where this one has a subtree.
    let put = Block {
        number: at(31),
        previous_hash: lied[0].block.hash(),
        operations: marked("stats/mark/below", 1.0),
    };
    event(&mut replica, "one", block_event(&put));
    assert!(replica.status().sources[0].set_aside.is_some());
    replica.abandon_unproven(at(30)).unwrap();
    assert_eq!(replica.status().sources[0].set_aside, None);
}

#[test]
fn a_source_is_followed_and_its_checkpoints_are_votes() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("one".to_owned()), 1), (VoterId("two".to_owned()), 1)]);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    send(&mut replica, "one", 0..150);
    send(&mut replica, "two", 0..150);
    report(&mut replica, "one", 0);
    assert_eq!(replica.position().unwrap().irreversible, None);
    report(&mut replica, "two", 0);
    let irreversible = replica.position().unwrap().irreversible.unwrap();
    assert_eq!(
        (irreversible.block_num, irreversible.state_hash),
        (at(99), chain().checkpoints[0].cid)
    );
    assert!(replica.store().view().undo(at(99)).unwrap().is_none());
    assert!(replica.store().view().undo(at(100)).unwrap().is_some());
    send(&mut replica, "one", 150..500);
    assert_equals_vectors(&replica, 499);
}

#[test]
fn changes_of_irreversible_blocks_are_kept_as_far_as_asked_for() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("one".to_owned()), 1), (VoterId("two".to_owned()), 1)]);
    let kept_changes = 30;
    let mut replica = home.started(ReplicaSettings {
        voters,
        kept_changes,
        ..settings()
    });
    for source in ["one", "two"] {
        send(&mut replica, source, 0..150);
        report(&mut replica, source, 0);
    }
    assert_eq!(
        replica.position().unwrap().irreversible.unwrap().block_num,
        at(99)
    );
    let view = replica.store().view();
    assert!(view.undo(at(69)).unwrap().is_none());
    let kept = honeygraph_chain::BlockRange::new(at(70), at(149)).unwrap();
    assert!(view.keeps_changes_of(kept).unwrap());
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

#[test]
fn a_checkpoint_that_voters_contradict_is_in_conflict() {
    let home = Home::new();
    let voters = ["a", "b", "one"].map(|name| (VoterId(name.to_owned()), 1));
    let voters = Voters::new(voters);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    replica.extend(&peer("a"), &chain().blocks[0..150]).unwrap();
    let ours = honest_anchor(0);
    let other = Anchor {
        block_hash: ours.state_hash,
        ..ours
    };
    let vote = |replica: &mut Replica, voter: &str, anchor| {
        replica.on_vote(VoterId(voter.to_owned()), anchor).unwrap();
    };
    vote(&mut replica, "a", other);
    // Two others may still agree on it.
    assert!(replica.status().conflicts.is_empty());
    // A source that stands on a fork stands against it.
    send(&mut replica, "one", 0..95);
    for place in 95..101 {
        let own = Block {
            operations: marked("stats/mark", 1.0),
            ..chain().blocks[place].block.block().clone()
        };
        event(&mut replica, "one", block_event(&own));
    }
    let followed = replica.position().unwrap().state_height;
    assert_eq!(followed, at(100));
    assert_eq!(replica.status().counters.reorganizations, 1);
    let theirs = replica.store().view().checkpoint(at(99)).unwrap().unwrap();
    assert_ne!(theirs.anchor(), Some(ours));
    // Now it is the source's chain that two voters stand against.
    vote(&mut replica, "b", ours);
    assert!(replica.status().conflicts.contains(&at(99)));
    assert_eq!(replica.position().unwrap().irreversible, None);
}

#[test]
fn a_source_on_a_fork_contradicts_the_newest_checkpoint() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("one".to_owned()), 1), (VoterId("two".to_owned()), 1)]);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    send(&mut replica, "one", 0..120);
    send(&mut replica, "two", 0..95);
    assert!(replica.status().conflicts.is_empty());
    for place in 95..100 {
        let own = Block {
            operations: marked("stats/mark", 1.0),
            ..chain().blocks[place].block.block().clone()
        };
        event(&mut replica, "two", block_event(&own));
    }
    assert_equals_vectors(&replica, 119);
    assert!(replica.status().conflicts.contains(&at(99)));
}

#[test]
fn a_voter_that_takes_its_contradiction_back_is_in_conflict_no_more() {
    let home = Home::new();
    let voters = ["a", "b", "c"].map(|name| (VoterId(name.to_owned()), 1));
    let mut replica = home.started(ReplicaSettings {
        voters: Voters::new(voters),
        ..settings()
    });
    replica.extend(&peer("a"), &chain().blocks[0..150]).unwrap();
    let ours = honest_anchor(0);
    let other = |block_hash| Anchor { block_hash, ..ours };
    for voter in ["a", "b"] {
        replica.on_vote(VoterId(voter.to_owned()), ours).unwrap();
    }
    assert_eq!(replica.position().unwrap().irreversible, Some(ours));
    for (voter, hash) in [("b", ours.state_hash), ("c", chain().genesis.0)] {
        replica.on_vote(VoterId(voter.to_owned()), other(hash)).unwrap();
    }
    assert!(replica.status().conflicts.contains(&at(99)));
    assert_eq!(replica.position().unwrap().halted, None);
    replica.on_vote(VoterId("b".to_owned()), ours).unwrap();
    assert!(replica.status().conflicts.is_empty());
}

#[test]
fn blocks_above_a_gap_wait_for_it_to_be_filled() {
    let home = Home::new();
    let mut replica = home.started(settings());
    send(&mut replica, "one", 0..10);
    event(&mut replica, "one", SourceEventKind::Restarted);
    send(&mut replica, "one", 300..320);
    assert_eq!(replica.first_pending(), Some(at(300)));
    assert_eq!(replica.network_head(), Some(at(319)));
    replica.extend(&peer("a"), &chain().blocks[10..300]).unwrap();
    assert_equals_vectors(&replica, 319);
    assert_eq!(replica.first_pending(), None);
}

/// A chain of marked blocks on top of the block at a place.
fn branch(place: usize, length: u64, mark: f64) -> Vec<HashedBlock> {
    let mut parent = chain().blocks[place].block.clone();
    let mut branch = Vec::new();
    for _ in 0..length {
        parent = HashedBlock::from(Block {
            number: parent.number().next(),
            previous_hash: parent.hash(),
            operations: marked("stats/mark", mark),
        });
        branch.push(parent.clone());
    }
    branch
}

#[test]
fn the_fork_with_more_weight_wins_and_the_loser_is_kept() {
    let home = Home::new();
    let mut replica = home.started(settings());
    send(&mut replica, "one", 0..40);
    send(&mut replica, "two", 0..20);
    send(&mut replica, "three", 0..20);
    let fork = branch(19, 5, 1.0);
    for block in &fork {
        event(&mut replica, "two", block_event(block.block()));
    }
    assert_equals_vectors(&replica, 39);
    assert_eq!(replica.status().forks.len(), 1);
    // The second source on the same fork outweighs the longer one.
    event(&mut replica, "three", block_event(fork[0].block()));
    let position = replica.position().unwrap().clone();
    assert_eq!(position.state_block_hash, Some(fork[4].hash()));
    let lost = replica.store().view().fork_blocks().count();
    assert_eq!(lost, 20);
    assert_eq!(replica.status().counters.reorganizations, 1);
    // Back again, from what is stored.
    drop(replica);
    let mut replica = home.open(settings());
    assert_eq!(replica.position().unwrap().state_block_hash, Some(fork[4].hash()));
    for name in ["one", "two", "three"] {
        event(
            &mut replica,
            name,
            SourceEventKind::Connected {
                session: SessionId(1),
            },
        );
        send(&mut replica, name, 20..60);
    }
    assert_equals_vectors(&replica, 59);
}

#[test]
fn a_fork_across_a_checkpoint_is_named_with_the_last_block_it_shares() {
    let home = Home::new();
    let mut replica = home.started(settings());
    send(&mut replica, "one", 0..120);
    send(&mut replica, "two", 0..98);
    // A checkpoint of its own is among these blocks.
    for place in 98..103 {
        let own = Block {
            operations: marked("stats/mark", 1.0),
            ..chain().blocks[place].block.block().clone()
        };
        event(&mut replica, "two", block_event(&own));
    }
    let forks = replica.status().forks;
    assert_eq!(forks.len(), 1);
    assert_eq!((forks[0].tip.number, forks[0].ancestor.number), (at(102), at(97)));
}

#[test]
fn a_fork_below_the_irreversible_block_is_not_followed() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("one".to_owned()), 1)]);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    send(&mut replica, "one", 0..120);
    report(&mut replica, "one", 0);
    for block in branch(89, 60, 1.0) {
        event(&mut replica, "two", block_event(block.block()));
    }
    assert_equals_vectors(&replica, 119);
    assert_eq!(replica.status().counters.divergences, 1);
}

#[test]
fn a_wrong_schedule_is_corrected_by_the_network() {
    let home = Home::new();
    let wrong = CheckpointSchedule {
        state_offset: 18_501,
        ..CheckpointSchedule::default()
    };
    let mut replica = home.started(ReplicaSettings {
        schedule: wrong,
        ..settings()
    });
    send(&mut replica, "one", 0..340);
    assert_ne!(
        replica.position().unwrap().state_block_hash,
        Some(chain().blocks[339].block.hash())
    );
    for checkpoint in 0..3 {
        report(&mut replica, "one", checkpoint);
    }
    assert_equals_vectors(&replica, 339);
    report(&mut replica, "one", 2);
    send(&mut replica, "one", 340..500);
    assert_equals_vectors(&replica, 499);
    assert_eq!(
        replica.position().unwrap().schedule.kind_at(at(299)),
        Some(CheckpointKind::State)
    );
}

#[test]
fn a_wrong_schedule_is_corrected_by_what_peers_link_to() {
    let home = Home::new();
    let wrong = CheckpointSchedule {
        state_offset: 18_501,
        ..CheckpointSchedule::default()
    };
    let mut replica = home.started(ReplicaSettings {
        schedule: wrong,
        ..settings()
    });
    for run in chain().blocks.chunks(150) {
        replica.extend(&peer("a"), run).unwrap();
    }
    assert_equals_vectors(&replica, 499);
}

#[test]
fn what_is_not_proven_can_be_taken_back() {
    let home = Home::new();
    let mut replica = home.started(settings());
    replica.extend(&peer("liar"), &lie(0..150, 120)).unwrap();
    let outcome = replica
        .extend(&peer("honest"), &chain().blocks[150..160])
        .unwrap();
    assert!(matches!(
        outcome,
        ExtendOutcome::Rejected {
            fault: PeerFault::BrokenLink,
            ..
        }
    ));
    replica.abandon_unproven(at(149)).unwrap();
    assert_equals_vectors(&replica, 99);
    replica
        .extend(&peer("honest"), &chain().blocks[100..500])
        .unwrap();
    assert_equals_vectors(&replica, 499);
}

#[test]
fn what_the_voters_disprove_goes_however_deep_it_is() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("peer".to_owned()), 1)]);
    let shallow = ReplicaSettings {
        voters,
        max_reorg_depth: 50,
        ..settings()
    };
    let mut replica = home.started(shallow.clone());
    replica.extend(&peer("liar"), &lie(0..100, 30)).unwrap();
    replica.extend(&peer("liar"), &chained_on(&replica, 190)).unwrap();
    assert_eq!(replica.position().unwrap().state_height, at(289));
    let honest = chain().checkpoints[0].clone();
    let anchor = Anchor {
        block_num: honest.block_num,
        block_hash: chain().blocks[99].block.hash(),
        state_hash: honest.cid,
        state_digest: honest.state_digest,
    };
    replica.on_vote(VoterId("peer".to_owned()), anchor).unwrap();
    assert_eq!(replica.position().unwrap().state_height.next(), at(0));
    replica.extend(&peer("honest"), &chain().blocks).unwrap();
    assert_equals_vectors(&replica, 499);
    drop(replica);
    assert_equals_vectors(&home.open(shallow), 499);
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

#[test]
fn a_stranger_does_not_turn_the_schedule_against_what_is_irreversible() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("one".to_owned()), 1)]);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    send(&mut replica, "one", 0..100);
    report(&mut replica, "one", 0);
    assert_eq!(replica.position().unwrap().irreversible_block(), Some(at(99)));
    let view = replica.store().view();
    let position = replica.position().unwrap().clone();
    let state_id = replica
        .stage_at(&view, &position, at(99))
        .unwrap()
        .state_document(at(99))
        .unwrap()
        .0;
    let forged = chain().blocks[100].block.clone().relinked(state_id);
    let outcome = replica
        .extend(
            &peer("stranger"),
            &[FetchedBlock {
                block: forged,
                timestamp_ms: 0,
            }],
        )
        .unwrap();
    assert!(
        matches!(
            outcome,
            ExtendOutcome::Rejected {
                fault: PeerFault::BrokenLink,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(replica.position().unwrap().schedule, position.schedule);
    send(&mut replica, "one", 100..200);
    assert_equals_vectors(&replica, 199);
}

#[test]
fn operations_without_hashes_are_taken_only_where_a_checkpoint_proves_them() {
    let home = Home::new();
    let mut replica = home.started(settings());
    let operations = |places: std::ops::Range<usize>| {
        let blocks = chain().blocks[places].iter().map(|fetched| fetched.block.block());
        blocks
            .map(|block| (block.number, block.operations.clone(), 0))
            .collect::<Vec<_>>()
    };
    let outcome = replica
        .extend_operations(&peer("old"), operations(0..20), Vouched::ByNobody)
        .unwrap();
    assert_eq!(outcome, ExtendOutcome::NeedsCheckpoint { block: at(99) });
    replica
        .extend_operations(&peer("old"), operations(0..5), Vouched::ByQuorum)
        .unwrap();
    let stored = replica.store().view().block(at(4)).unwrap().unwrap();
    assert_eq!(stored.verification, crate::store::Verification::Unverified);
    replica.abandon_unproven(at(4)).unwrap();
    report(&mut replica, "one", 0);
    replica
        .extend_operations(&peer("old"), operations(0..60), Vouched::ByNobody)
        .unwrap();
    assert_eq!(replica.position().unwrap().state_height.next(), at(0));
    replica
        .extend_operations(&peer("old"), operations(60..100), Vouched::ByNobody)
        .unwrap();
    assert_equals_vectors(&replica, 99);
}

#[test]
fn a_checkpoint_at_an_unexpected_block_is_learned() {
    let home = Home::new();
    let wrong = CheckpointSchedule {
        delta_offset: 51,
        ..CheckpointSchedule::default()
    };
    let mut replica = home.started(ReplicaSettings {
        schedule: wrong,
        ..settings()
    });
    send(&mut replica, "one", 0..40);
    send(&mut replica, "one", 40..120);
    report(&mut replica, "one", 0);
    assert_eq!(replica.position().unwrap().schedule.delta_offset, 1);
    assert_equals_vectors(&replica, 119);
}

#[test]
fn a_source_whose_checkpoint_does_not_prove_is_told_and_taken_again() {
    let home = Home::new();
    let mut replica = home.started(settings());
    let mut corrupted = chain().blocks[50].block.block().clone();
    corrupted.operations = marked("balances/thief", 5.0);
    send(&mut replica, "one", 0..50);
    event(&mut replica, "one", block_event(&corrupted));
    send(&mut replica, "one", 51..110);
    report(&mut replica, "one", 0);
    assert_eq!(replica.position().unwrap().state_height.next(), at(0));
    assert!(replica.take_outbox().iter().any(|(to, message)| {
        *to == source("one") && matches!(message, SourceCommand::Refuse(text) if text.contains("28559201"))
    }));
    send(&mut replica, "one", 0..110);
    report(&mut replica, "one", 0);
    assert_equals_vectors(&replica, 109);
}

#[test]
fn holes_are_filled_only_by_the_blocks_that_were_there() {
    let home = Home::new();
    let mut replica = home.started(settings());
    replica.extend(&peer("a"), &chain().blocks).unwrap();
    for places in [(30, 80), (95, 105), (250, 350), (480, 499)] {
        replica
            .discard_blocks(BlockRange::new(at(places.0), at(places.1)).unwrap())
            .unwrap();
    }
    let outcome = replica.fill_history(&lie(30..81, 40)).unwrap();
    assert!(
        matches!(
            outcome,
            HistoryOutcome::Rejected {
                fault: PeerFault::WrongHash,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert!(!replica.writer.have().contains(at(30)));
    for places in [30..81, 95..106, 250..351, 480..500] {
        assert_eq!(
            replica.fill_history(&chain().blocks[places]).unwrap(),
            HistoryOutcome::Stored
        );
    }
    assert_eq!(replica.writer.have().block_count(), 500);
    for (place, fetched) in chain().blocks.iter().enumerate() {
        let stored = replica.store().view().block(at(place)).unwrap().unwrap();
        assert_eq!(stored.hash, fetched.block.hash());
    }
}

#[test]
fn a_hole_since_the_last_checkpoint_is_filled_before_anything_goes_on() {
    let home = Home::new();
    let mut replica = home.started(settings());
    replica.extend(&peer("a"), &chain().blocks[0..350]).unwrap();
    replica
        .discard_blocks(BlockRange::new(at(305), at(340)).unwrap())
        .unwrap();
    for reopened in [false, true] {
        if reopened {
            drop(replica);
            replica = home.open(settings());
        }
        let outcome = replica.extend(&peer("a"), &chain().blocks[350..500]).unwrap();
        assert_eq!(outcome, ExtendOutcome::NeedsHistory);
        send(&mut replica, "one", 350..360);
        assert_eq!(replica.position().unwrap().state_height, at(349));
    }
    assert_eq!(
        replica.fill_history(&chain().blocks[305..341]).unwrap(),
        HistoryOutcome::Stored
    );
    replica.extend(&peer("a"), &chain().blocks[360..500]).unwrap();
    assert_equals_vectors(&replica, 499);
}

fn documents(home: &Home) -> StartDocuments {
    let checkpoints = &chain().checkpoints;
    StartDocuments {
        state: home.file("state.json", &checkpoints[2].document.to_canonical()),
        state_id: checkpoints[2].cid,
        prev_root: PreviousRoot::Known(chain().genesis.0),
        deltas: vec![(checkpoints[3].cid, checkpoints[3].document.to_canonical())],
        anchor: None,
    }
}

#[test]
fn a_replica_starts_from_documents_and_backfills_behind() {
    let home = Home::new();
    let mut replica = home.open(settings());
    assert_eq!(replica.start_from(&documents(&home)).unwrap(), at(399));
    assert_eq!(
        replica.position().unwrap().state_digest,
        chain().checkpoints[3].state_digest
    );
    replica.extend(&peer("a"), &chain().blocks[400..500]).unwrap();
    assert_equals_vectors(&replica, 499);
    // Behind the start: the delta proves its own period, what is older must be learned first.
    replica.set_history_start(at(0)).unwrap();
    assert_eq!(
        replica.fill_history(&lie(300..400, 350)).unwrap(),
        HistoryOutcome::Rejected {
            at: at(399),
            fault: PeerFault::CheckpointMismatch
        }
    );
    assert_eq!(
        replica.fill_history(&chain().blocks[300..400]).unwrap(),
        HistoryOutcome::Stored
    );
    let outcome = replica.fill_history(&chain().blocks[150..200]).unwrap();
    assert!(matches!(outcome, HistoryOutcome::NeedsCheckpoints { .. }));
    let other = Home::new();
    let mut full = other.started(settings());
    full.extend(&peer("a"), &chain().blocks).unwrap();
    let all = BlockRange::new(number(0), at(499)).unwrap();
    let records: Vec<_> = full
        .store()
        .view()
        .checkpoints(all)
        .collect::<Result<_, _>>()
        .unwrap();
    replica.learn_checkpoints(&records).unwrap();
    for run in chain().blocks[0..300].chunks(50).rev() {
        assert_eq!(replica.fill_history(run).unwrap(), HistoryOutcome::Stored);
    }
    assert_eq!(replica.writer.have().block_count(), 500);
}

#[test]
fn a_document_that_is_not_what_it_says_starts_nothing() {
    let home = Home::new();
    let mut replica = home.open(settings());
    let wrong = StartDocuments {
        state_id: chain().genesis.0,
        ..documents(&home)
    };
    assert!(matches!(
        replica.start_from(&wrong),
        Err(StartError::Document { .. })
    ));
    assert_eq!(home_position(replica, &home), None);
}

#[test]
fn a_second_start_leaves_no_block_above_its_state() {
    let home = Home::new();
    let mut replica = home.open(settings());
    replica.start_from(&documents(&home)).unwrap();
    replica.extend(&peer("a"), &chain().blocks[400..500]).unwrap();
    replica.set_history_start(at(0)).unwrap();
    replica.fill_history(&chain().blocks[300..400]).unwrap();
    replica.start_from(&documents(&home)).unwrap();
    let kept = BlockRange::new(at(300), at(399)).unwrap();
    assert_eq!(replica.writer.have().iter().collect::<Vec<_>>(), [kept]);
    replica.extend(&peer("a"), &chain().blocks[400..500]).unwrap();
    assert_eq!(
        replica.position().unwrap().state_digest,
        chain().checkpoints[4].state_digest
    );
}

#[test]
fn votes_on_what_is_behind_the_start_contradict_nothing() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("peer".to_owned()), 1)]);
    let mut replica = home.open(ReplicaSettings { voters, ..settings() });
    replica.start_from(&documents(&home)).unwrap();
    let behind = &chain().checkpoints[0];
    let anchor = Anchor {
        block_num: behind.block_num,
        block_hash: chain().blocks[99].block.hash(),
        state_hash: behind.cid,
        state_digest: behind.state_digest,
    };
    replica.on_vote(VoterId("peer".to_owned()), anchor).unwrap();
    assert_eq!(replica.status().counters.divergences, 0);
    assert_eq!(replica.position().unwrap().state_height, at(399));
}

#[test]
fn a_start_that_the_voters_contradict_halts_and_says_what_to_do() {
    let voter = || VoterId("peer".to_owned());
    let agreed = Anchor {
        state_hash: chain().genesis.0,
        ..honest_anchor(3)
    };
    // The voters may have spoken before the start or speak after it.
    for spoke_before in [true, false] {
        let home = Home::new();
        let mut replica = home.open(with_voters(&["peer"]));
        if spoke_before {
            replica.on_vote(voter(), agreed).unwrap();
        }
        replica.start_from(&documents(&home)).unwrap();
        replica.on_votes(&voter(), &[agreed]).unwrap();
        replica.on_votes(&voter(), &[agreed]).unwrap();
        assert_eq!(replica.status().counters.divergences, 1);
        assert_eq!(replica.position().unwrap().state_height, at(399));
        let halted = replica.position().unwrap().halted.clone().unwrap();
        let trusted = format!("TRUSTED_CHECKPOINT={}:{}", at(399), chain().genesis.0);
        assert!(
            halted.contains("started from") && halted.contains(&trusted),
            "{halted}"
        );
        assert_eq!(
            replica
                .extend(&peer("honest"), &chain().blocks[400..410])
                .unwrap(),
            ExtendOutcome::Halted
        );
    }
}

#[test]
fn what_the_voters_had_said_of_a_start_is_looked_at_once_it_is_made() {
    let home = Home::new();
    let mut replica = home.open(with_voters(&["peer"]));
    let agreed = Anchor {
        state_hash: chain().genesis.0,
        ..honest_anchor(3)
    };
    replica.on_vote(VoterId("peer".to_owned()), agreed).unwrap();
    replica.start_from(&documents(&home)).unwrap();
    assert!(replica.position().unwrap().halted.is_some());
}

#[test]
fn a_start_that_the_voters_agree_on_goes_on() {
    let home = Home::new();
    let mut replica = home.open(with_voters(&["peer"]));
    replica.start_from(&documents(&home)).unwrap();
    replica
        .on_vote(VoterId("peer".to_owned()), honest_anchor(3))
        .unwrap();
    assert_eq!(replica.position().unwrap().halted, None);
    replica.extend(&peer("a"), &chain().blocks[400..500]).unwrap();
    assert_equals_vectors(&replica, 499);
}

/// Settings with voters of weight 1.
fn with_voters(names: &[&str]) -> ReplicaSettings {
    let voters = names.iter().map(|name| (VoterId((*name).to_owned()), 1));
    ReplicaSettings {
        voters: Voters::new(voters),
        ..settings()
    }
}

/// A source reports an id for a checkpoint.
fn report_as(replica: &mut Replica, from: &str, checkpoint: usize, id: ContentId) {
    let kind = SourceEventKind::Checkpoint {
        covered: chain().checkpoints[checkpoint].block_num,
        id,
        previous: None,
    };
    event(replica, from, kind);
}

#[test]
fn a_lone_report_does_not_decide_where_a_node_starts() {
    let home = Home::new();
    let mut replica = home.open(with_voters(&["one", "two", "liar"]));
    let honest = (chain().checkpoints[2].block_num, chain().checkpoints[2].cid);
    report_as(&mut replica, "liar", 3, chain().genesis.0);
    report_as(&mut replica, "stranger", 3, chain().genesis.0);
    assert_eq!(replica.newest_supported(), None);
    // A report and a vote count together, those of one voter once.
    report(&mut replica, "one", 2);
    replica
        .on_vote(VoterId("one".to_owned()), honest_anchor(2))
        .unwrap();
    assert_eq!(replica.newest_supported(), None);
    replica
        .on_vote(VoterId("two".to_owned()), honest_anchor(2))
        .unwrap();
    let status = replica.status();
    assert_eq!(status.newest_supported, Some(honest));
    assert_eq!(status.newest_agreed, Some(honest_anchor(2)));
}

#[test]
fn one_source_is_enough_where_nobody_else_votes() {
    let honest = (chain().checkpoints[2].block_num, chain().checkpoints[2].cid);
    for voters in [&[][..], &["one"], &["silent"]] {
        let home = Home::new();
        let mut replica = home.open(with_voters(voters));
        report(&mut replica, "one", 2);
        assert_eq!(replica.newest_supported(), Some(honest), "{voters:?}");
    }
    // Against the one who votes nobody else counts.
    let home = Home::new();
    let mut replica = home.open(with_voters(&["one"]));
    report(&mut replica, "one", 2);
    report_as(&mut replica, "stranger", 3, chain().genesis.0);
    assert_eq!(replica.newest_supported(), Some(honest));
}

#[test]
fn what_the_operator_named_is_started_from() {
    let named = (chain().checkpoints[2].block_num, chain().checkpoints[2].cid);
    let home = Home::new();
    let mut replica = home.open(ReplicaSettings {
        trusted_checkpoint: Some(named),
        ..with_voters(&["one", "two"])
    });
    report_as(&mut replica, "one", 2, chain().genesis.0);
    report_as(&mut replica, "two", 2, chain().genesis.0);
    assert_eq!(replica.newest_supported(), Some(named));
}

/// Settings under which every second checkpoint is a full state, and `peer` decides alone.
fn with_many_states(state_documents: usize) -> ReplicaSettings {
    ReplicaSettings {
        schedule: CheckpointSchedule {
            state_interval: 200,
            state_offset: at(99).get() % 200,
            ..CheckpointSchedule::default()
        },
        voters: Voters::new([(VoterId("peer".to_owned()), 1)]),
        state_documents: std::num::NonZeroUsize::new(state_documents).unwrap(),
        ..settings()
    }
}

/// Has a period of own blocks committed.
fn grow(replica: &mut Replica) {
    let blocks = chained_on(replica, 100);
    replica.extend(&peer("a"), &blocks).unwrap();
}

/// Has the voter agree on the newest checkpoint.
fn settle(replica: &mut Replica) {
    let newest = replica.position().unwrap().checkpoints.last_block;
    let record = replica.store().view().checkpoint(newest).unwrap().unwrap();
    let anchor = record.anchor().unwrap();
    replica.on_vote(VoterId("peer".to_owned()), anchor).unwrap();
}

/// The blocks of the stored documents.
fn stored_documents(replica: &Replica) -> Vec<BlockNumber> {
    let view = replica.store().view();
    let blocks = view.document_ids().map(|id| {
        let record = view.checkpoint_by_id(id.unwrap()).unwrap();
        record.unwrap().block_num
    });
    let mut blocks: Vec<_> = blocks.collect();
    blocks.sort_unstable();
    blocks
}

#[test]
fn full_states_age_out_once_newer_ones_are_irreversible() {
    let home = Home::new();
    let mut replica = home.started(with_many_states(2));
    let genesis = at(0).saturating_sub(1);
    let state = |place: u64| at(99).saturating_add(place * 200);
    for _ in 0..5 {
        grow(&mut replica);
    }
    // Nothing is irreversible yet.
    let all = [genesis, state(0), state(1), state(2)];
    assert_eq!(stored_documents(&replica), all);
    let ids: Vec<_> = replica
        .store()
        .view()
        .document_ids()
        .map(Result::unwrap)
        .collect();
    settle(&mut replica);
    assert_eq!(stored_documents(&replica), [state(1), state(2)]);
    let gone = ids
        .iter()
        .filter(|id| !replica.store().view().has_document(**id).unwrap());
    assert_eq!(gone.count(), 2);
    grow(&mut replica);
    settle(&mut replica);
    grow(&mut replica);
    // The one that is not irreversible is kept beside them.
    assert_eq!(stored_documents(&replica), [state(1), state(2), state(3)]);
    settle(&mut replica);
    assert_eq!(stored_documents(&replica), [state(2), state(3)]);
    // Fewer are kept from the next start on.
    drop(replica);
    let replica = home.open(with_many_states(1));
    assert_eq!(stored_documents(&replica), [state(3)]);
}

#[test]
fn what_a_replica_started_from_is_kept_while_its_deltas_name_it() {
    let home = Home::new();
    let own = ReplicaSettings {
        schedule: CheckpointSchedule {
            state_interval: 600,
            state_offset: at(299).get() % 600,
            ..CheckpointSchedule::default()
        },
        ..with_many_states(1)
    };
    let mut replica = home.open(own);
    replica.start_from(&documents(&home)).unwrap();
    let (start, delta) = (at(299), at(399));
    let later = |periods: u64| delta.saturating_add(periods * 100);
    for periods in 1..5 {
        grow(&mut replica);
        settle(&mut replica);
        assert_eq!(stored_documents(&replica), [start, delta], "after {periods}");
    }
    // A newer full state that is not irreversible takes nothing away yet.
    grow(&mut replica);
    assert_eq!(stored_documents(&replica), [start, delta, later(5)]);
    settle(&mut replica);
    assert_eq!(stored_documents(&replica), [later(5)]);
}

fn home_position(replica: Replica, home: &Home) -> Option<Position> {
    drop(replica);
    home.open(settings()).position().cloned()
}

#[test]
fn voters_that_agree_on_another_chain_undo_ours_but_never_what_is_final() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("peer".to_owned()), 1)]);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    replica.extend(&peer("liar"), &lie(0..100, 30)).unwrap();
    let honest = chain().checkpoints[0].clone();
    let anchor = Anchor {
        block_num: honest.block_num,
        block_hash: chain().blocks[99].block.hash(),
        state_hash: honest.cid,
        state_digest: honest.state_digest,
    };
    replica.on_vote(VoterId("peer".to_owned()), anchor).unwrap();
    assert_eq!(replica.position().unwrap().state_height.next(), at(0));
    assert_eq!(replica.status().counters.divergences, 1);
    replica.extend(&peer("honest"), &chain().blocks[0..150]).unwrap();
    replica.on_vote(VoterId("peer".to_owned()), anchor).unwrap();
    assert_eq!(replica.position().unwrap().irreversible, Some(anchor));
    let contradiction = Anchor {
        block_hash: honest.cid,
        ..anchor
    };
    replica
        .on_vote(VoterId("peer".to_owned()), contradiction)
        .unwrap();
    assert!(
        replica
            .position()
            .unwrap()
            .halted
            .as_deref()
            .unwrap()
            .contains("contradicts the irreversible")
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]

    /// I3: whatever is delivered again, by whomever, in whatever pieces, changes nothing; and I2: what is
    /// stored hangs together from the start on.
    #[test]
    fn any_schedule_of_deliveries_gives_the_same_chain(
        deliveries in proptest::collection::vec((0_usize..4, 0_usize..300, 1_usize..120), 1..16),
    ) {
        let home = Home::new();
        let mut replica = home.started(settings());
        for (from, start, length) in deliveries {
            let places = start..(start + length).min(300);
            match from {
                0 => send(&mut replica, "one", places),
                1 => send(&mut replica, "two", places),
                _ => {
                    replica.extend(&peer("a"), &chain().blocks[places]).unwrap();
                }
            }
            let position = replica.position().unwrap().clone();
            let stored = replica.writer.have().block_count();
            proptest::prop_assert_eq!(stored, position.state_height.next().distance_from(position.history_start));
        }
        let before = replica.position().unwrap().state_height;
        let next = (0..500).find(|place| at(*place) > before).unwrap();
        replica.extend(&peer("a"), &chain().blocks[next..500]).unwrap();
        send(&mut replica, "one", 0..500);
        assert_equals_vectors(&replica, 499);
        proptest::prop_assert_eq!(replica.store().view().fork_blocks().count(), 0);
    }
}

#[test]
fn a_source_that_waits_above_a_gap_in_the_middle_of_a_known_period_goes_on_once_it_is_filled() {
    let home = Home::new();
    let mut replica = home.started(settings());
    report(&mut replica, "one", 0);
    send(&mut replica, "one", 50..100);
    replica.extend(&peer("a"), &chain().blocks[0..50]).unwrap();
    assert_equals_vectors(&replica, 99);
}

/// Applies what is stored right above what is applied.
fn apply_stored(replica: &mut Replica) {
    while replica.can_apply_stored() {
        replica.apply_stored().unwrap();
    }
    replica.settle().unwrap();
}

fn assert_sound(replica: &mut Replica) {
    replica.settle().unwrap();
    let report = crate::store::check::check(replica.store(), &mut |_| ());
    assert!(report.is_sound(), "{:?}", report.problems());
}

fn have(replica: &Replica) -> Vec<(u64, u64)> {
    let runs = replica.writer.have().iter();
    let place = |number: BlockNumber| number.get() - at(0).get();
    runs.map(|run| (place(run.start()), place(run.end()))).collect()
}

#[test]
fn blocks_of_a_source_above_a_gap_are_stored_and_applied_once_the_gap_is_filled() {
    let home = Home::new();
    let mut replica = home.started(settings());
    event(
        &mut replica,
        "one",
        SourceEventKind::Connected {
            session: SessionId(1),
        },
    );
    send(&mut replica, "one", 150..205);
    // It is not known yet what the blocks link to.
    assert_eq!(replica.first_pending(), Some(at(150)));
    report(&mut replica, "one", 1);
    assert_eq!(replica.first_pending(), None);
    send(&mut replica, "one", 205..300);
    report(&mut replica, "one", 2);
    send(&mut replica, "one", 300..450);
    // The next checkpoint is reported late: only what stands above it waits.
    assert_eq!(replica.first_pending(), Some(at(400)));
    report(&mut replica, "one", 3);
    replica.settle().unwrap();
    let status = replica.status();
    assert_eq!((status.first_pending, status.newest_ahead), (None, Some(at(449))));
    assert_eq!(status.position.unwrap().state_height.next(), at(0));
    assert_eq!(have(&replica), [(200, 449)]);
    let view = replica.store().view();
    let stored = view.block(at(449)).unwrap().unwrap();
    assert_eq!(
        (stored.hash, stored.digest),
        (chain().blocks[449].block.hash(), None)
    );
    drop(view);
    assert_sound(&mut replica);
    drop(replica);

    // Nothing of it is lost when the node stops before the gap is filled.
    let mut replica = home.open(settings());
    assert!(!replica.can_apply_stored());
    replica.extend(&peer("a"), &chain().blocks[0..200]).unwrap();
    apply_stored(&mut replica);
    assert_equals_vectors(&replica, 449);
    assert_eq!(replica.status().counters.ahead_discarded, 0);
    assert_sound(&mut replica);
}

#[test]
fn a_source_stands_where_its_stored_blocks_end_once_they_are_applied() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("one".to_owned()), 1)]);
    let mut replica = home.started(ReplicaSettings { voters, ..settings() });
    event(
        &mut replica,
        "one",
        SourceEventKind::Connected {
            session: SessionId(1),
        },
    );
    send(&mut replica, "one", 150..450);
    (1..4).for_each(|checkpoint| report(&mut replica, "one", checkpoint));
    replica.extend(&peer("a"), &chain().blocks[0..200]).unwrap();
    apply_stored(&mut replica);
    let status = replica.status();
    assert_eq!(status.sources[0].tip, Some(at(449)));
    assert_eq!(replica.position().unwrap().irreversible_block(), Some(at(399)));
    send(&mut replica, "one", 450..500);
    assert_equals_vectors(&replica, 499);
}

#[test]
fn stored_blocks_that_a_checkpoint_disproves_are_removed_and_the_rest_stays() {
    let home = Home::new();
    let mut replica = home.started(settings());
    (0..4).for_each(|checkpoint| report(&mut replica, "two", checkpoint));
    let mut blocks: Vec<_> = chain().blocks[200..450].to_vec();
    blocks.splice(100..200, lie(300..400, 350));
    for fetched in blocks {
        event(&mut replica, "one", block_event(fetched.block.block()));
    }
    assert_eq!(have(&replica), [(200, 449)]);
    replica.extend(&peer("a"), &chain().blocks[0..200]).unwrap();
    apply_stored(&mut replica);
    assert_equals_vectors(&replica, 299);
    assert_eq!(have(&replica), [(0, 299), (400, 449)]);
    assert_eq!(replica.status().counters.ahead_discarded, 100);
    assert_sound(&mut replica);
    replica.extend(&peer("a"), &chain().blocks[300..400]).unwrap();
    apply_stored(&mut replica);
    assert_equals_vectors(&replica, 449);
}

#[test]
fn stored_blocks_that_do_not_link_to_what_was_filled_are_removed() {
    let home = Home::new();
    let mut replica = home.started(settings());
    // The rest of another chain, as a source that is gone has left it.
    let mut transaction = replica.writer.begin();
    for fetched in &lie(240..260, 240)[5..] {
        let stored = StoredBlock::new(&fetched.block, 0);
        transaction.put_block(fetched.block.number(), &stored);
    }
    transaction.commit().unwrap();
    replica.extend(&peer("a"), &chain().blocks[0..245]).unwrap();
    apply_stored(&mut replica);
    assert_eq!(have(&replica), [(0, 244)]);
    assert_sound(&mut replica);
}

#[test]
fn periods_near_the_head_are_stored_before_the_gap_where_known_checkpoints_prove_them() {
    let home = Home::new();
    let mut replica = home.started(settings());
    let blocks = &chain().blocks;
    assert_eq!(
        replica.store_ahead(&blocks[300..400]).unwrap(),
        AheadOutcome::Waits
    );
    (0..5).for_each(|checkpoint| report(&mut replica, "one", checkpoint));
    // A full state proves no operations: below it nothing is wanted before the gap.
    assert_eq!(replica.status().ahead_from, Some(at(300)));
    let rejected = replica.store_ahead(&lie(300..400, 350)).unwrap();
    let (at_checkpoint, fault) = (at(399), PeerFault::CheckpointMismatch);
    assert_eq!(
        rejected,
        AheadOutcome::Rejected {
            at: at_checkpoint,
            fault
        }
    );
    assert_eq!(
        replica.store_ahead(&blocks[300..350]).unwrap(),
        AheadOutcome::Waits
    );
    assert_eq!(
        replica.store_ahead(&blocks[350..400]).unwrap(),
        AheadOutcome::Waits
    );
    assert!(replica.writer.have().is_empty());
    assert_eq!(
        replica.store_ahead(&blocks[300..500]).unwrap(),
        AheadOutcome::Stored
    );
    assert_eq!(have(&replica), [(300, 499)]);
    assert_sound(&mut replica);
    replica.extend(&peer("a"), &blocks[0..300]).unwrap();
    apply_stored(&mut replica);
    assert_equals_vectors(&replica, 499);
    assert_eq!(replica.status().ahead_from, None);
}

#[test]
fn blocks_above_the_newest_known_checkpoint_are_stored_where_they_link_to_it() {
    let home = Home::new();
    let mut replica = home.started(settings());
    (0..4).for_each(|checkpoint| report(&mut replica, "one", checkpoint));
    let blocks = &chain().blocks;
    assert_eq!(
        replica.store_ahead(&blocks[401..420]).unwrap(),
        AheadOutcome::Waits
    );
    let mut unlinked = blocks[400..420].to_vec();
    unlinked[0].block = unlinked[0].block.clone().relinked(blocks[0].block.hash());
    let (first, fault) = (at(400), PeerFault::BrokenLink);
    let rejected = replica.store_ahead(&unlinked).unwrap();
    assert_eq!(rejected, AheadOutcome::Rejected { at: first, fault });
    assert_eq!(
        replica.store_ahead(&blocks[400..420]).unwrap(),
        AheadOutcome::Stored
    );
    assert_eq!(
        replica.store_ahead(&blocks[420..430]).unwrap(),
        AheadOutcome::Stored
    );
    assert_eq!(have(&replica), [(400, 429)]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]

    /// Whatever comes above a gap, from whomever, with restarts in between: the chain is the published one, and
    /// what is stored stays sound.
    #[test]
    fn any_schedule_of_deliveries_above_gaps_gives_the_same_chain(
        deliveries in proptest::collection::vec((0_usize..6, 0_usize..490, 1_usize..220), 1..20),
    ) {
        let home = Home::new();
        let mut replica = home.started(settings());
        let report_all = |replica: &mut Replica| (0..5).for_each(|checkpoint| report(replica, "one", checkpoint));
        report_all(&mut replica);
        for (what, start, length) in deliveries {
            let places = start..(start + length).min(500);
            match what {
                0 => send(&mut replica, "one", places),
                1 => send(&mut replica, "two", places),
                2 => {
                    replica.extend(&peer("a"), &chain().blocks[places]).unwrap();
                }
                3 => {
                    let start = start / 100 * 100;
                    let end = (start + length.next_multiple_of(100)).min(500);
                    replica.store_ahead(&chain().blocks[start..end]).unwrap();
                }
                4 => replica.apply_stored().unwrap(),
                _ => {
                    replica.finish().unwrap();
                    drop(replica);
                    replica = home.open(settings());
                    report_all(&mut replica);
                }
            }
        }
        assert_sound(&mut replica);
        loop {
            apply_stored(&mut replica);
            let height = replica.running.as_ref().unwrap().stage.tip.number;
            let Some(next) = (0..500).find(|place| at(*place) > height) else { break };
            let end = (next + 50).min(500);
            replica.extend(&peer("a"), &chain().blocks[next..end]).unwrap();
        }
        replica.finish().unwrap();
        assert_equals_vectors(&replica, 499);
        proptest::prop_assert_eq!(replica.status().counters.ahead_discarded, 0);
        proptest::prop_assert_eq!(replica.store().view().fork_blocks().count(), 0);
        assert_sound(&mut replica);
    }
}

/// A replica that was started from the full state at the 300th block alone, and was not told what stood before.
fn started_at_full_state(home: &Home) -> Replica {
    let mut replica = home.open(settings());
    let documents = StartDocuments {
        prev_root: PreviousRoot::Unknown,
        deltas: Vec::new(),
        ..documents(home)
    };
    assert_eq!(replica.start_from(&documents).unwrap(), at(299));
    replica
}

fn delta_document(checkpoint: usize) -> DeltaDocument {
    DeltaDocument::parse(&chain().checkpoints[checkpoint].document.to_canonical()).unwrap()
}

#[test]
fn a_delta_that_cannot_be_computed_is_nobodys_fault_and_waits_for_its_report() {
    let home = Home::new();
    let mut replica = started_at_full_state(&home);
    let accepted = |place| ExtendOutcome::Accepted {
        applied: at(place),
        committed: at(place),
    };
    let run = |from: usize| &chain().blocks[from..420];
    assert_eq!(replica.extend(&peer("a"), run(300)).unwrap(), accepted(398));
    let waits = ExtendOutcome::NeedsCheckpoint { block: at(399) };
    assert_eq!(replica.extend(&peer("a"), run(399)).unwrap(), waits);
    // Those of a source wait as well, and go on with its report.
    send(&mut replica, "one", 390..410);
    assert_eq!(replica.position().unwrap().state_height, at(398));
    report(&mut replica, "one", 3);
    assert_equals_vectors(&replica, 409);
    assert_eq!(replica.status().counters.state_hash_mismatches, 0);
    // The next one is taken from peers as it is reported.
    report(&mut replica, "one", 4);
    replica.extend(&peer("a"), &chain().blocks[410..500]).unwrap();
    assert_equals_vectors(&replica, 499);
    assert_sound(&mut replica);
    drop(replica);
    assert_eq!(
        home.open(settings()).position().unwrap().checkpoints.prev_root,
        PreviousRoot::Unknown
    );
}

#[test]
fn a_later_delta_document_names_the_full_state_before_the_start() {
    let home = Home::new();
    let mut replica = started_at_full_state(&home);
    report(&mut replica, "one", 3);
    let named_in = replica.status().previous_root_named_in;
    assert_eq!(named_in, Some(chain().checkpoints[3].cid));
    replica.extend(&peer("a"), &chain().blocks[300..420]).unwrap();
    assert_eq!(replica.status().previous_root_named_in, named_in);
    // The document of another full state's delta says nothing.
    replica.learn_named(&delta_document(1)).unwrap();
    assert_eq!(replica.status().previous_root_named_in, named_in);
    replica.learn_named(&delta_document(3)).unwrap();
    assert_eq!(replica.status().previous_root_named_in, None);
    let view = replica.store().view();
    let records = [2, 3].map(|place: usize| view.checkpoint(chain().checkpoints[place].block_num));
    let roots = records.map(|record| record.unwrap().unwrap().root);
    assert_eq!(roots, [chain().genesis.0, chain().checkpoints[2].cid]);
    drop(view);
    // From now on deltas are computed, also where nobody reports them.
    replica.extend(&peer("a"), &chain().blocks[420..500]).unwrap();
    assert_equals_vectors(&replica, 499);
    assert_sound(&mut replica);
}

#[test]
fn what_was_taken_as_reported_goes_where_it_does_not_compute_once_that_can_be_told() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("one".to_owned()), 1)]);
    let mut replica = home.open(ReplicaSettings { voters, ..settings() });
    let documents = StartDocuments {
        prev_root: PreviousRoot::Unknown,
        deltas: Vec::new(),
        ..documents(&home)
    };
    replica.start_from(&documents).unwrap();
    report(&mut replica, "one", 3);
    replica.extend(&peer("liar"), &lie(300..400, 350)).unwrap();
    assert_eq!(replica.position().unwrap().state_height, at(399));
    // Its vote would be for what its own stream has not shown.
    send(&mut replica, "one", 400..410);
    assert_eq!(replica.position().unwrap().irreversible, None);
    replica.learn_named(&delta_document(3)).unwrap();
    assert_eq!(replica.position().unwrap().state_height, at(299));
    replica.extend(&peer("honest"), &chain().blocks[300..500]).unwrap();
    assert_equals_vectors(&replica, 499);
}

/// Blocks as a peer hands them over.
fn fetched(blocks: &[HashedBlock]) -> Vec<FetchedBlock> {
    let with_time = |block: &HashedBlock| FetchedBlock {
        block: block.clone(),
        timestamp_ms: 7,
    };
    blocks.iter().map(with_time).collect()
}

fn last(blocks: &[HashedBlock]) -> BlockReference {
    let last = blocks.last().unwrap();
    BlockReference {
        number: last.number(),
        hash: last.hash(),
    }
}

#[test]
fn a_fork_is_held_and_followed_once_the_source_that_was_heard_at_its_tip_outweighs() {
    let home = Home::new();
    let mut replica = home.started(with_voters(&["one", "two", "three", "peer"]));
    send(&mut replica, "one", 0..40);
    let fork = branch(19, 30, 1.0);
    // A peer does not outweigh a source, however long its fork is.
    assert_eq!(replica.hold_fork(&fetched(&fork)).unwrap(), Some(last(&fork)));
    let peer = VoterId("peer".to_owned());
    replica.voter_stands(peer, Some(last(&fork))).unwrap();
    assert_equals_vectors(&replica, 39);
    let forks = replica.status().forks;
    assert_eq!((forks.len(), forks[0].tip, forks[0].ancestor.number), (1, last(&fork), at(19)));
    // A source of which nothing was heard before is found where its block is: one on one, so that the peer decides.
    event(&mut replica, "two", block_event(fork[26].block()));
    assert_eq!(replica.position().unwrap().state_block_hash, Some(last(&fork).hash));
    assert_eq!(replica.status().counters.reorganizations, 1);
    // The other becomes heavier again.
    send(&mut replica, "three", 38..40);
    assert_equals_vectors(&replica, 39);
    assert_eq!(replica.status().counters.reorganizations, 2);
    assert_sound(&mut replica);
}

#[test]
fn a_source_that_was_taken_for_a_new_fork_is_put_where_its_blocks_are_found() {
    let home = Home::new();
    let mut replica = home.started(with_voters(&["one", "two", "three"]));
    send(&mut replica, "one", 0..40);
    let fork = branch(19, 20, 1.0);
    for block in &fork[10..16] {
        event(&mut replica, "two", block_event(block.block()));
    }
    // Its own blocks, but on a block that is not its own.
    assert_eq!(replica.status().forks[0].ancestor.number, at(29));
    replica.hold_fork(&fetched(&fork[..13])).unwrap();
    let status = replica.status();
    assert_eq!(status.forks.len(), 1);
    assert_eq!((status.forks[0].tip, status.forks[0].ancestor.number), (last(&fork[..16]), at(19)));
    assert_eq!(status.sources[1].tip_hash, Some(last(&fork[..16]).hash));
    // It goes on from there, and one more source makes it the heavier fork.
    event(&mut replica, "two", block_event(fork[16].block()));
    event(&mut replica, "three", block_event(fork[16].block()));
    assert_eq!(replica.position().unwrap().state_block_hash, Some(last(&fork[..17]).hash));
    assert_sound(&mut replica);
}

#[test]
fn a_fork_with_checkpoints_of_its_own_is_held_and_followed() {
    let home = Home::new();
    // The chain's own checkpoints are all deltas here, so that the fork has two of its own.
    let deltas = CheckpointSchedule {
        state_offset: 18_501,
        state_interval: 288_000,
        ..CheckpointSchedule::default()
    };
    let own = || ReplicaSettings {
        schedule: deltas,
        ..with_voters(&["one", "two", "peer"])
    };
    let other = Home::new();
    let mut theirs = other.started(own());
    theirs.extend(&peer("a"), &chain().blocks[0..95]).unwrap();
    let fork = chained_on(&theirs, 150);
    theirs.extend(&peer("a"), &fork).unwrap();

    let mut replica = home.started(own());
    send(&mut replica, "one", 0..120);
    report(&mut replica, "one", 0);
    let tip = replica.hold_fork(&fork).unwrap().unwrap();
    assert_eq!(Some(tip.hash), theirs.position().unwrap().state_block_hash);
    event(&mut replica, "two", block_event(fork[148].block.block()));
    replica.voter_stands(VoterId("peer".to_owned()), Some(tip)).unwrap();
    // What the one reports on its own fork says nothing of the other.
    assert_eq!(
        replica.position().unwrap().checkpoints,
        theirs.position().unwrap().checkpoints
    );
    assert_eq!(replica.status().counters.state_hash_mismatches, 0);
    assert_sound(&mut replica);
    // Both are in the tree again after a restart.
    let forks = replica.status().forks;
    drop(replica);
    let mut replica = home.open(own());
    assert_eq!(replica.status().forks, forks);
    replica
        .voter_stands(VoterId("peer".to_owned()), Some(forks[0].tip))
        .unwrap();
    assert_equals_vectors(&replica, 119);
    assert_eq!(replica.status().forks[0].tip, tip);
    drop(replica);
    assert_eq!(home.open(own()).status().forks[0].tip, tip);
}

#[test]
fn what_links_to_nothing_here_is_not_held() {
    let home = Home::new();
    let mut replica = home.started(with_voters(&["one"]));
    send(&mut replica, "one", 0..40);
    let fork = fetched(&branch(19, 20, 1.0));
    assert_eq!(replica.hold_fork(&fork[3..]).unwrap(), None);
    // Nor what follows the chain that is followed.
    assert_eq!(replica.hold_fork(&chain().blocks[40..50]).unwrap(), None);
    let gap = [&fork[..2], &fork[5..]].concat();
    assert_eq!(replica.hold_fork(&gap).unwrap().unwrap().number, at(21));
    assert_eq!(replica.store().view().fork_blocks().count(), 2);
}

#[test]
fn a_source_that_does_not_vote_does_not_say_what_a_checkpoint_is() {
    let home = Home::new();
    let mut replica = home.started(with_voters(&["one"]));
    let wrong = SourceEventKind::Checkpoint {
        covered: at(99),
        id: chain().genesis.0,
        previous: None,
    };
    event(&mut replica, "stranger", wrong);
    // Neither alone, nor against a voter.
    replica.extend(&peer("a"), &chain().blocks[0..120]).unwrap();
    assert_equals_vectors(&replica, 119);
    report(&mut replica, "one", 1);
    let false_report = SourceEventKind::Checkpoint {
        covered: at(199),
        id: chain().genesis.0,
        previous: None,
    };
    event(&mut replica, "stranger", false_report);
    assert_eq!(replica.reported_checkpoint(at(199)), Some(chain().checkpoints[1].cid));
    assert_eq!(replica.newest_supported(), Some((at(199), chain().checkpoints[1].cid)));
}
