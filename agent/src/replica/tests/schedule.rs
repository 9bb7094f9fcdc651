//! Which blocks are checkpoints, where configuration is wrong about it.

use super::*;

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
