//! Blocks that break the rules of the state.

use super::*;

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
