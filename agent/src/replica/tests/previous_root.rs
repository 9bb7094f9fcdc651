//! Starts at a full state alone.

use super::*;

/// A replica that was started from the full state at the 300th block alone, and was not told what stood before.
fn started_at_full_state(home: &Home) -> Replica {
    let mut replica = home.open(settings());
    let documents = StartDocuments {
        prev_root: PreviousRoot::Unknown,
        deltas: Vec::new(),
        ..documents(home)
    };
    assert_eq!(replica.start_from(&documents).unwrap(), at(299));
    replica
}

fn delta_document(checkpoint: usize) -> DeltaDocument {
    DeltaDocument::parse(&chain().checkpoints[checkpoint].document.to_canonical()).unwrap()
}

#[test]
fn a_delta_that_cannot_be_computed_is_nobodys_fault_and_waits_for_its_report() {
    let home = Home::new();
    let mut replica = started_at_full_state(&home);
    let accepted = |place| ExtendOutcome::Accepted {
        applied: at(place),
        committed: at(place),
    };
    let run = |from: usize| &chain().blocks[from..420];
    assert_eq!(replica.extend(&peer("a"), run(300)).unwrap(), accepted(398));
    let waits = ExtendOutcome::NeedsCheckpoint { block: at(399) };
    assert_eq!(replica.extend(&peer("a"), run(399)).unwrap(), waits);
    // Those of a source wait as well, and go on with its report.
    send(&mut replica, "one", 390..410);
    assert_eq!(replica.position().unwrap().state_height, at(398));
    report(&mut replica, "one", 3);
    assert_equals_vectors(&replica, 409);
    assert_eq!(replica.status().counters.state_hash_mismatches, 0);
    // The next one is taken from peers as it is reported.
    report(&mut replica, "one", 4);
    replica.extend(&peer("a"), &chain().blocks[410..500]).unwrap();
    assert_equals_vectors(&replica, 499);
    assert_sound(&mut replica);
    drop(replica);
    assert_eq!(
        home.open(settings()).position().unwrap().checkpoints.prev_root,
        PreviousRoot::Unknown
    );
}

#[test]
fn a_later_delta_document_names_the_full_state_before_the_start() {
    let home = Home::new();
    let mut replica = started_at_full_state(&home);
    report(&mut replica, "one", 3);
    let named_in = replica.status().previous_root_named_in;
    assert_eq!(named_in, Some(chain().checkpoints[3].cid));
    replica.extend(&peer("a"), &chain().blocks[300..420]).unwrap();
    assert_eq!(replica.status().previous_root_named_in, named_in);
    // The document of another full state's delta says nothing.
    replica.learn_named(&delta_document(1)).unwrap();
    assert_eq!(replica.status().previous_root_named_in, named_in);
    replica.learn_named(&delta_document(3)).unwrap();
    assert_eq!(replica.status().previous_root_named_in, None);
    let view = replica.store().view();
    let records = [2, 3].map(|place: usize| view.checkpoint(chain().checkpoints[place].block_num));
    let roots = records.map(|record| record.unwrap().unwrap().root);
    assert_eq!(roots, [chain().genesis.0, chain().checkpoints[2].cid]);
    drop(view);
    // From now on deltas are computed, also where nobody reports them.
    replica.extend(&peer("a"), &chain().blocks[420..500]).unwrap();
    assert_equals_vectors(&replica, 499);
    assert_sound(&mut replica);
}

#[test]
fn what_was_taken_as_reported_goes_where_it_does_not_compute_once_that_can_be_told() {
    let home = Home::new();
    let voters = Voters::new([(VoterId("one".to_owned()), 1)]);
    let mut replica = home.open(ReplicaSettings { voters, ..settings() });
    let documents = StartDocuments {
        prev_root: PreviousRoot::Unknown,
        deltas: Vec::new(),
        ..documents(&home)
    };
    replica.start_from(&documents).unwrap();
    report(&mut replica, "one", 3);
    replica.extend(&peer("liar"), &lie(300..400, 350)).unwrap();
    assert_eq!(replica.position().unwrap().state_height, at(399));
    // Its vote would be for what its own stream has not shown.
    send(&mut replica, "one", 400..410);
    assert_eq!(replica.position().unwrap().irreversible, None);
    replica.learn_named(&delta_document(3)).unwrap();
    assert_eq!(replica.position().unwrap().state_height, at(299));
    replica
        .extend(&peer("honest"), &chain().blocks[300..500])
        .unwrap();
    assert_equals_vectors(&replica, 499);
}
