//! Blocks of the past.

use super::*;
use crate::store::CheckpointRecord;

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

fn delta_document(checkpoint: usize) -> DeltaDocument {
    DeltaDocument::parse(&chain().checkpoints[checkpoint].document.to_canonical()).unwrap()
}

/// What a replica that ran from the genesis has of the checkpoint at a place.
fn record_at(place: usize) -> CheckpointRecord {
    let home = Home::new();
    let mut full = home.started(settings());
    full.extend(&peer("a"), &chain().blocks).unwrap();
    full.store().view().checkpoint(at(place)).unwrap().unwrap()
}

/// A replica that started at the 400th block and wants all history, with the block of the full state at the
/// 300th as it is told where nobody votes.
fn started(home: &Home) -> (Replica, ToldBlocks) {
    let mut replica = home.open(settings());
    replica.start_from(&documents(home)).unwrap();
    replica.set_history_start(at(0)).unwrap();
    let told = ToldBlocks::from([(at(299), chain().blocks[299].block.hash())]);
    (replica, told)
}

#[test]
fn history_is_proven_from_the_top_down_without_anybodys_list() {
    let home = Home::new();
    let (mut replica, told) = started(&home);
    let blocks = &chain().blocks;
    let range = |from, to| BlockRange::new(at(from), at(to)).unwrap();
    // Nothing fixes the block of the full state but what is told of it.
    assert_eq!(
        replica.fill_history(&blocks[250..400]).unwrap(),
        HistoryOutcome::StoredFrom { first: at(300) }
    );
    assert_eq!(
        replica.fill_history(&blocks[250..300]).unwrap(),
        HistoryOutcome::NeedsCheckpoints {
            range: range(250, 299)
        }
    );
    // What stands below it is not known before it is stored, nor is it where a document is given out of turn.
    assert_eq!(
        replica.fill_history(&blocks[0..100]).unwrap(),
        HistoryOutcome::NeedsCheckpoints { range: range(0, 99) }
    );
    let id = chain().checkpoints[1].cid;
    assert!(!replica.learn_past_document(id, &delta_document(1)).unwrap());
    assert_eq!(
        replica.fill_history_as_told(&blocks[150..300], &told).unwrap(),
        HistoryOutcome::StoredFrom { first: at(200) }
    );
    for (from, to) in [(150, 199), (0, 99)] {
        assert_eq!(
            replica.fill_history(&blocks[from..=to]).unwrap(),
            HistoryOutcome::NeedsDocument {
                range: range(from, to),
                id
            }
        );
    }
    assert!(replica.learn_past_document(id, &delta_document(1)).unwrap());
    assert!(!replica.learn_past_document(id, &delta_document(1)).unwrap());
    // From now on in any order.
    assert_eq!(
        replica.fill_history(&blocks[0..100]).unwrap(),
        HistoryOutcome::Stored
    );
    assert_eq!(
        replica.fill_history(&blocks[100..200]).unwrap(),
        HistoryOutcome::Stored
    );
    assert_eq!(replica.writer.have().block_count(), 400);
    assert_sound(&mut replica);
    let (learned, applied) = (
        replica.store().view().checkpoint(at(299)).unwrap().unwrap(),
        record_at(299),
    );
    assert_eq!(
        (learned.root, learned.prev_root),
        (applied.root, applied.prev_root)
    );
    assert_eq!(learned.block_hash, None, "nobody answers for it");
}

#[test]
fn what_only_strangers_told_blames_nobody() {
    let home = Home::new();
    let (mut replica, _) = started(&home);
    let blocks = &chain().blocks;
    replica.fill_history(&blocks[300..400]).unwrap();
    let false_block = ToldBlocks::from([(at(299), chain().blocks[7].block.hash())]);
    assert_eq!(
        replica
            .fill_history_as_told(&blocks[200..300], &false_block)
            .unwrap(),
        HistoryOutcome::Rejected {
            at: at(299),
            fault: PeerFault::WrongHash,
            is_certain: false
        }
    );
    // The voters answer for it: then whoever gave other blocks is to blame.
    replica.learn_checkpoints(&[record_at(299)]).unwrap();
    assert_eq!(
        replica.fill_history(&lie(200..300, 250)).unwrap(),
        HistoryOutcome::Rejected {
            at: at(299),
            fault: PeerFault::WrongHash,
            is_certain: true
        }
    );
    assert_eq!(
        replica.fill_history(&blocks[200..300]).unwrap(),
        HistoryOutcome::Stored
    );
}

#[test]
fn a_checkpoint_that_stored_blocks_disprove_is_not_learned_and_does_not_stay() {
    let home = Home::new();
    let (mut replica, _) = started(&home);
    let blocks = &chain().blocks;
    replica.fill_history(&blocks[300..400]).unwrap();
    let forged = |place: usize| CheckpointRecord {
        state_hash: chain().genesis.0,
        state_digest: None,
        ..record_at(place)
    };
    // It is learned before anything is known of the blocks around it, and goes once the blocks above it are here.
    assert_eq!(replica.learn_checkpoints(&[forged(199)]).unwrap(), 1);
    replica.learn_checkpoints(&[record_at(299)]).unwrap();
    assert_eq!(
        replica.fill_history(&blocks[200..300]).unwrap(),
        HistoryOutcome::Stored
    );
    assert_eq!(replica.store().view().checkpoint(at(199)).unwrap(), None);
    assert_eq!(replica.learn_checkpoints(&[forged(199)]).unwrap(), 0);
    assert_eq!(replica.learn_checkpoints(&[record_at(199)]).unwrap(), 1);
    assert_eq!(
        replica.fill_history(&blocks[100..200]).unwrap(),
        HistoryOutcome::Stored
    );
}
