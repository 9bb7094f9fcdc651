use honeygraph_chain::checkpoint::{CheckpointChain, PreviousRoot};
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId, StateDigest};

use super::layout::{FORMAT_KEY, number_key};
use super::record::{Verification, json_to_bytes};
use super::*;

fn number(number: u64) -> BlockNumber {
    BlockNumber::try_from(number).unwrap()
}

fn open(directory: &Path) -> (Store, Writer, Recovery) {
    Store::open(directory, &StoreSettings::default()).unwrap()
}

fn position() -> Position {
    Position {
        network: "spkcc".to_owned(),
        schedule: CheckpointSchedule::default(),
        history_start: number(2),
        state_height: number(1),
        state_block_hash: None,
        state_digest: StateDigest::EMPTY,
        checkpoints: CheckpointChain::from_state(number(1), ContentId::of(b"genesis")),
        irreversible: None,
        halted: None,
        commits: 0,
    }
}

fn block(text: &str) -> StoredBlock {
    StoredBlock {
        hash: ContentId::of(text.as_bytes()),
        digest: None,
        timestamp_ms: 7,
        verification: Verification::Verified,
        bytes: text.as_bytes().to_vec(),
    }
}

#[test]
fn a_transaction_is_all_or_nothing_and_survives_reopening() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (store, mut writer, recovery) = open(directory.path());
        assert_eq!(recovery, Recovery::Complete);
        let before = store.view();
        let mut transaction = writer.begin();
        transaction.put_block(number(2), &block("two"));
        transaction.put_block(number(3), &block("three"));
        transaction.put_block(number(5), &block("five"));
        transaction.set_position(position());
        assert!(store.view().block(number(2)).unwrap().is_none());
        transaction.commit().unwrap();
        assert!(before.block(number(2)).unwrap().is_none());
        let mut dropped = writer.begin();
        dropped.put_block(number(9), &block("nine"));
        drop(dropped);
    }
    let (store, writer, recovery) = open(directory.path());
    assert_eq!(recovery, Recovery::Complete);
    assert_eq!(store.view().block(number(3)).unwrap(), Some(block("three")));
    assert_eq!(store.view().block(number(9)).unwrap(), None);
    let runs: Vec<_> = writer.have().iter().collect();
    assert_eq!(
        runs,
        [
            BlockRange::new(number(2), number(3)).unwrap(),
            BlockRange::single(number(5))
        ]
    );
    assert_eq!(writer.position().unwrap().commits, 1);
}

#[test]
fn a_commit_in_the_background_is_said_to_be_durable_once_it_is() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (_, mut writer, _) = open(directory.path());
        let mut transaction = writer.begin();
        transaction.put_block(number(2), &block("two"));
        transaction.set_position(position());
        let (told, durable) = std::sync::mpsc::channel();
        transaction
            .commit_in_background(move |took| told.send(took).unwrap())
            .unwrap();
        assert!(writer.durable().position.is_none() && writer.durable().have.is_empty());
        assert_eq!(writer.position().unwrap().state_height, number(1));
        durable.recv().unwrap();
        while writer.would_wait() {
            std::thread::yield_now();
        }
        assert!(writer.try_settle().unwrap());
        // Whoever reads through the writer waits for it.
        assert_eq!(
            writer.store().view().block(number(2)).unwrap(),
            Some(block("two"))
        );
        assert!(writer.durable().have.contains(number(2)));

        let mut transaction = writer.begin();
        transaction.put_block(number(3), &block("three"));
        transaction.commit_in_background(|_| ()).unwrap();
    }
    let (store, writer, recovery) = open(directory.path());
    assert_eq!(recovery, Recovery::Complete);
    assert_eq!(writer.position().unwrap().commits, 2);
    assert_eq!(store.view().block(number(3)).unwrap(), Some(block("three")));
}

#[test]
fn have_rows_follow_the_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let (store, mut writer, _) = open(directory.path());
    let mut transaction = writer.begin();
    for at in 2..=10 {
        transaction.put_block(number(at), &block("x"));
    }
    transaction.commit().unwrap();
    let mut transaction = writer.begin();
    transaction.remove_blocks(BlockRange::new(number(4), number(5)).unwrap());
    transaction.remove_blocks(BlockRange::new(number(9), number(99)).unwrap());
    transaction.commit().unwrap();
    assert_eq!(store.view().have().unwrap(), *writer.have());
    let runs: Vec<_> = writer
        .have()
        .iter()
        .map(|run| (run.start().get(), run.end().get()))
        .collect();
    assert_eq!(runs, [(2, 3), (6, 8)]);
    assert_eq!(
        store
            .view()
            .blocks(BlockRange::new(number(1), number(99)).unwrap())
            .count(),
        5
    );
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let _open = open(directory.path());
    let error = Store::open(directory.path(), &StoreSettings::default()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
}

#[test]
fn a_newer_format_is_refused_with_a_clear_line() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (store, ..) = open(directory.path());
        store.keyspaces.meta.insert(FORMAT_KEY, "99").unwrap();
    }
    let error = Store::open(directory.path(), &StoreSettings::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the store has format 99, this program knows up to 2: upgrade honeygraph-agent"
    );
}

#[test]
fn format_1_gets_its_index_of_checkpoints() {
    let directory = tempfile::tempdir().unwrap();
    let record = CheckpointRecord {
        block_num: number(101),
        kind: CheckpointKind::Delta,
        state_hash: ContentId::of(b"delta"),
        block_hash: None,
        state_digest: None,
        root: ContentId::of(b"root"),
        prev_root: PreviousRoot::None,
    };
    {
        let (store, ..) = open(directory.path());
        store.keyspaces.meta.insert(FORMAT_KEY, "1").unwrap();
        let value = json_to_bytes("checkpoint", &record).unwrap();
        store
            .keyspaces
            .checkpoints
            .insert(number_key(number(101)), value)
            .unwrap();
    }
    let (store, ..) = open(directory.path());
    assert_eq!(
        store.view().checkpoint_by_id(record.state_hash).unwrap(),
        Some(record)
    );
}

#[test]
fn lost_commits_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (_, mut writer, _) = open(directory.path());
        for _ in 0..3 {
            let mut transaction = writer.begin();
            transaction.set_position(position());
            transaction.commit().unwrap();
        }
    }
    // An older copy of the database beside the newer record of the last commit.
    LastCommitFile::new(directory.path()).write(5).unwrap();
    let (_, _, recovery) = open(directory.path());
    assert_eq!(
        recovery,
        Recovery::LostCommits {
            found: 3,
            acknowledged: 5
        }
    );
    // A damaged record is no evidence.
    std::fs::write(
        directory.path().join("last-commit.json"),
        "{\"commits\":9,\"crc32\":1}",
    )
    .unwrap();
    let (_, _, recovery) = open(directory.path());
    assert_eq!(recovery, Recovery::Complete);
}

#[test]
fn an_interrupted_replacement_of_the_state_is_discarded() {
    use honeygraph_chain::state::{Leaf, Leaves};
    use honeygraph_chain::{JsonValue, PathKey};
    let directory = tempfile::tempdir().unwrap();
    let key = PathKey::root().child("a");
    {
        let (_, mut writer, _) = open(directory.path());
        let mut transaction = writer.begin();
        transaction.set_position(position());
        transaction.commit().unwrap();
        let leaf = Leaf::try_from(JsonValue::Null).unwrap();
        writer
            .replace_state(|replacement| replacement.set(&key, Some(&leaf)))
            .unwrap();
    }
    let (store, writer, _) = open(directory.path());
    assert_eq!(writer.position(), None);
    assert_eq!(store.view().leaf(&key).unwrap(), None);
}
