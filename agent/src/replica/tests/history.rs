//! Blocks of the past.

use super::*;

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
