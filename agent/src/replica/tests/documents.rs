//! Which documents are kept.

use super::*;

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
