//! Starting from documents.

use super::*;

#[test]
fn a_replica_starts_from_documents_and_backfills_behind() {
    let home = Home::new();
    let mut replica = home.open(settings());
    assert_eq!(replica.start_from(&documents(&home)).unwrap(), at(399));
    assert_eq!(
        replica.position().unwrap().state_digest,
        chain().checkpoints[3].state_digest
    );
    replica.extend(&peer("a"), &chain().blocks[400..500]).unwrap();
    assert_equals_vectors(&replica, 499);
    // Behind the start: the delta proves its own period, what is older must be learned first.
    replica.set_history_start(at(0)).unwrap();
    assert_eq!(
        replica.fill_history(&lie(300..400, 350)).unwrap(),
        HistoryOutcome::Rejected {
            at: at(399),
            fault: PeerFault::CheckpointMismatch,
            is_certain: true,
        }
    );
    assert_eq!(
        replica.fill_history(&chain().blocks[300..400]).unwrap(),
        HistoryOutcome::Stored
    );
    let outcome = replica.fill_history(&chain().blocks[150..200]).unwrap();
    assert!(matches!(outcome, HistoryOutcome::NeedsCheckpoints { .. }));
    let other = Home::new();
    let mut full = other.started(settings());
    full.extend(&peer("a"), &chain().blocks).unwrap();
    let all = BlockRange::new(number(0), at(499)).unwrap();
    let records: Vec<_> = full
        .store()
        .view()
        .checkpoints(all)
        .collect::<Result<_, _>>()
        .unwrap();
    replica.learn_checkpoints(&records).unwrap();
    for run in chain().blocks[0..300].chunks(50).rev() {
        assert_eq!(replica.fill_history(run).unwrap(), HistoryOutcome::Stored);
    }
    assert_eq!(replica.writer.have().block_count(), 500);
}

#[test]
fn a_document_that_is_not_what_it_says_starts_nothing() {
    let home = Home::new();
    let mut replica = home.open(settings());
    let wrong = StartDocuments {
        state_id: chain().genesis.0,
        ..documents(&home)
    };
    assert!(matches!(
        replica.start_from(&wrong),
        Err(StartError::Document { .. })
    ));
    assert_eq!(home_position(replica, &home), None);
}

#[test]
fn more_deltas_than_the_schedule_has_start_nothing() {
    let home = Home::new();
    let deltas = vec![delta_file(&home, 0), delta_file(&home, 1)];
    let (state_id, genesis) = &chain().genesis;
    let documents = StartDocuments {
        state: home.file("genesis.json", genesis),
        state_id: *state_id,
        prev_root: PreviousRoot::None,
        deltas,
        anchor: None,
    };
    let with_interval = |state_interval| ReplicaSettings {
        schedule: CheckpointSchedule {
            state_interval,
            ..CheckpointSchedule::default()
        },
        ..settings()
    };
    let mut replica = home.open(with_interval(100));
    let error = replica.start_from(&documents).unwrap_err().to_string();
    assert!(
        error.contains("2 deltas") && error.contains("at most 1"),
        "{error}"
    );
    assert_eq!(replica.position(), None);
    drop(replica);
    let mut replica = home.open(with_interval(200));
    assert_eq!(replica.start_from(&documents).unwrap(), at(199));
}

#[test]
fn a_second_start_leaves_no_block_above_its_state() {
    let home = Home::new();
    let mut replica = home.open(settings());
    replica.start_from(&documents(&home)).unwrap();
    replica.extend(&peer("a"), &chain().blocks[400..500]).unwrap();
    replica.set_history_start(at(0)).unwrap();
    replica.fill_history(&chain().blocks[300..400]).unwrap();
    replica.start_from(&documents(&home)).unwrap();
    let kept = BlockRange::new(at(300), at(399)).unwrap();
    assert_eq!(replica.writer.have().iter().collect::<Vec<_>>(), [kept]);
    replica.extend(&peer("a"), &chain().blocks[400..500]).unwrap();
    assert_eq!(
        replica.position().unwrap().state_digest,
        chain().checkpoints[4].state_digest
    );
}

#[test]
fn votes_on_what_is_behind_the_start_contradict_nothing() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("peer".to_owned()), 1)]);
    let mut replica = home.open(ReplicaSettings { voters, ..settings() });
    replica.start_from(&documents(&home)).unwrap();
    let behind = &chain().checkpoints[0];
    let anchor = Anchor {
        block_num: behind.block_num,
        block_hash: chain().blocks[99].block.hash(),
        state_hash: behind.cid,
        state_digest: behind.state_digest,
    };
    replica.on_vote(VoterId("peer".to_owned()), anchor).unwrap();
    assert_eq!(replica.status().counters.divergences, 0);
    assert_eq!(replica.position().unwrap().state_height, at(399));
}

#[test]
fn a_start_that_the_voters_contradict_halts_and_says_what_to_do() {
    let voter = || VoterId("peer".to_owned());
    let agreed = Anchor {
        state_hash: chain().genesis.0,
        ..honest_anchor(3)
    };
    // The voters may have spoken before the start or speak after it.
    for spoke_before in [true, false] {
        let home = Home::new();
        let mut replica = home.open(with_voters(&["peer"]));
        if spoke_before {
            replica.on_vote(voter(), agreed).unwrap();
        }
        replica.start_from(&documents(&home)).unwrap();
        replica.on_votes(&voter(), &[agreed]).unwrap();
        replica.on_votes(&voter(), &[agreed]).unwrap();
        assert_eq!(replica.status().counters.divergences, 1);
        assert_eq!(replica.position().unwrap().state_height, at(399));
        let halted = replica.position().unwrap().halted.clone().unwrap();
        let trusted = format!("TRUSTED_CHECKPOINT={}:{}", at(399), chain().genesis.0);
        assert!(
            halted.contains("started from") && halted.contains(&trusted),
            "{halted}"
        );
        assert_eq!(
            replica
                .extend(&peer("honest"), &chain().blocks[400..410])
                .unwrap(),
            ExtendOutcome::Halted
        );
    }
}

#[test]
fn what_the_voters_had_said_of_a_start_is_looked_at_once_it_is_made() {
    let home = Home::new();
    let mut replica = home.open(with_voters(&["peer"]));
    let agreed = Anchor {
        state_hash: chain().genesis.0,
        ..honest_anchor(3)
    };
    replica.on_vote(VoterId("peer".to_owned()), agreed).unwrap();
    replica.start_from(&documents(&home)).unwrap();
    assert!(replica.position().unwrap().halted.is_some());
}

#[test]
fn a_start_that_the_voters_agree_on_goes_on() {
    let home = Home::new();
    let mut replica = home.open(with_voters(&["peer"]));
    replica.start_from(&documents(&home)).unwrap();
    replica
        .on_vote(VoterId("peer".to_owned()), honest_anchor(3))
        .unwrap();
    assert_eq!(replica.position().unwrap().halted, None);
    replica.extend(&peer("a"), &chain().blocks[400..500]).unwrap();
    assert_equals_vectors(&replica, 499);
}

/// A source reports an id for a checkpoint.
fn report_as(replica: &mut Replica, from: &str, checkpoint: usize, id: ContentId) {
    let kind = SourceEventKind::Checkpoint {
        covered: chain().checkpoints[checkpoint].block_num,
        id,
        previous: None,
    };
    event(replica, from, kind);
}

#[test]
fn a_lone_report_does_not_decide_where_a_node_starts() {
    let home = Home::new();
    let mut replica = home.open(with_voters(&["one", "two", "liar"]));
    let honest = (chain().checkpoints[2].block_num, chain().checkpoints[2].cid);
    report_as(&mut replica, "liar", 3, chain().genesis.0);
    report_as(&mut replica, "stranger", 3, chain().genesis.0);
    assert_eq!(replica.newest_supported(), None);
    // A report and a vote count together, those of one voter once.
    report(&mut replica, "one", 2);
    replica
        .on_vote(VoterId("one".to_owned()), honest_anchor(2))
        .unwrap();
    assert_eq!(replica.newest_supported(), None);
    replica
        .on_vote(VoterId("two".to_owned()), honest_anchor(2))
        .unwrap();
    let status = replica.status();
    assert_eq!(status.newest_supported, Some(honest));
    assert_eq!(status.newest_agreed, Some(honest_anchor(2)));
}

#[test]
fn one_source_is_enough_where_nobody_else_votes() {
    let honest = (chain().checkpoints[2].block_num, chain().checkpoints[2].cid);
    for voters in [&[][..], &["one"], &["silent"]] {
        let home = Home::new();
        let mut replica = home.open(with_voters(voters));
        report(&mut replica, "one", 2);
        assert_eq!(replica.newest_supported(), Some(honest), "{voters:?}");
    }
    // Against the one who votes nobody else counts.
    let home = Home::new();
    let mut replica = home.open(with_voters(&["one"]));
    report(&mut replica, "one", 2);
    report_as(&mut replica, "stranger", 3, chain().genesis.0);
    assert_eq!(replica.newest_supported(), Some(honest));
}

#[test]
fn what_the_operator_named_is_started_from() {
    let named = (chain().checkpoints[2].block_num, chain().checkpoints[2].cid);
    let home = Home::new();
    let mut replica = home.open(ReplicaSettings {
        trusted_checkpoint: Some(named),
        ..with_voters(&["one", "two"])
    });
    report_as(&mut replica, "one", 2, chain().genesis.0);
    report_as(&mut replica, "two", 2, chain().genesis.0);
    assert_eq!(replica.newest_supported(), Some(named));
}

fn home_position(replica: Replica, home: &Home) -> Option<Position> {
    drop(replica);
    home.open(settings()).position().cloned()
}
