//! Blocks from peers at the front.

use super::*;

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
