//! Blocks and checkpoints of honeycombs.

use super::*;

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

#[test]
fn large_blocks_above_a_gap_are_held_up_to_their_bytes() {
    let home = Home::new();
    let mut replica = home.started(settings());
    let place = |place: u64| chain().blocks[10].block.number().saturating_add(place);
    for at in 0..200 {
        let put = Operation::Put {
            path: Path::from_slashed("large"),
            data: JsonValue::String("x".repeat(4 << 20)),
        };
        let block = Block {
            number: place(at),
            previous_hash: chain().genesis.0,
            operations: Operations::new(vec![put, Operation::WriteMarker]).unwrap(),
        };
        event(&mut replica, "one", block_event(&block));
    }
    let pending = &replica.sources[&source("one")].pending;
    assert!(
        pending.bytes() <= replica.settings.pending_bytes,
        "{}",
        pending.bytes()
    );
    // The newest are kept.
    assert_eq!(pending.back().unwrap().number, place(199));
    assert!(pending.len() > 5, "{}", pending.len());
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
fn a_source_that_waits_above_a_gap_in_the_middle_of_a_known_period_goes_on_once_it_is_filled() {
    let home = Home::new();
    let mut replica = home.started(settings());
    report(&mut replica, "one", 0);
    send(&mut replica, "one", 50..100);
    replica.extend(&peer("a"), &chain().blocks[0..50]).unwrap();
    assert_equals_vectors(&replica, 99);
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
    assert_eq!(
        replica.reported_checkpoint(at(199)),
        Some(chain().checkpoints[1].cid)
    );
    assert_eq!(
        replica.newest_supported(),
        Some((at(199), chain().checkpoints[1].cid))
    );
}
