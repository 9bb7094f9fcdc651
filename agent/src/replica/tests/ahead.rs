//! Blocks above a gap.

use super::*;

/// Applies what is stored right above what is applied.
fn apply_stored(replica: &mut Replica) {
    while replica.can_apply_stored() {
        replica.apply_stored().unwrap();
    }
    replica.settle().unwrap();
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
