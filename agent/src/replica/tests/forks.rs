//! Forks: held, weighed, followed.

use super::*;

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
fn a_fork_is_followed_up_to_where_commits_are_held() {
    let home = Home::new();
    let mut replica = home.started(settings());
    for (name, blocks) in [
        ("one", 95),
        ("other", 95),
        ("two", 90),
        ("three", 90),
        ("four", 90),
    ] {
        send(&mut replica, name, 0..blocks);
    }
    let own = |place: usize| {
        block_event(&Block {
            operations: marked("stats/mark", 1.0),
            ..chain().blocks[place].block.block().clone()
        })
    };
    for place in 90..110 {
        event(&mut replica, "two", own(place));
    }
    assert_eq!(replica.status().forks[0].tip.number, at(109));
    replica.stop_at(Some(at(99)));
    // Heavier now, and longer than the hold.
    for name in ["three", "four"] {
        event(&mut replica, name, own(90));
    }
    assert_eq!(replica.position().unwrap().state_height, at(99));
    assert_eq!(replica.status().counters.reorganizations, 1);
    replica.stop_at(None);
    event(&mut replica, "three", own(91));
    assert_eq!(replica.position().unwrap().state_height, at(109));
    assert_eq!(replica.status().counters.reorganizations, 1);
    assert_sound(&mut replica);
}

#[test]
fn a_fork_that_breaks_the_state_is_no_reorganization() {
    let home = Home::new();
    let mut replica = home.started(settings());
    send(&mut replica, "one", 0..40);
    let broken = Block {
        operations: marked("balances", 1.0),
        ..chain().blocks[20].block.block().clone()
    };
    for name in ["two", "three"] {
        send(&mut replica, name, 0..20);
        event(&mut replica, name, block_event(&broken));
    }
    assert_equals_vectors(&replica, 39);
    let status = replica.status();
    assert_eq!(
        (status.counters.reorganizations, status.counters.sources_set_aside),
        (0, 2)
    );
    assert!(status.forks.is_empty());
    assert_sound(&mut replica);
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
    assert_eq!(
        (forks.len(), forks[0].tip, forks[0].ancestor.number),
        (1, last(&fork), at(19))
    );
    // A source of which nothing was heard before is found where its block is: one on one, so that the peer decides.
    event(&mut replica, "two", block_event(fork[26].block()));
    assert_eq!(
        replica.position().unwrap().state_block_hash,
        Some(last(&fork).hash)
    );
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
    assert_eq!(
        (status.forks[0].tip, status.forks[0].ancestor.number),
        (last(&fork[..16]), at(19))
    );
    assert_eq!(status.sources[1].tip_hash, Some(last(&fork[..16]).hash));
    // It goes on from there, and one more source makes it the heavier fork.
    event(&mut replica, "two", block_event(fork[16].block()));
    event(&mut replica, "three", block_event(fork[16].block()));
    assert_eq!(
        replica.position().unwrap().state_block_hash,
        Some(last(&fork[..17]).hash)
    );
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
    replica
        .voter_stands(VoterId("peer".to_owned()), Some(tip))
        .unwrap();
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
