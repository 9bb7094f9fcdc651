//! What voters agree on, and what becomes final.

use super::*;

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
