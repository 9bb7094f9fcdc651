use std::path::{Path, PathBuf};

use fjall::Keyspace;
use honeygraph_chain::BlockNumber;

use super::*;
use crate::replica::Replica;
use crate::store::layout::{POSITION_KEY, number_key};
use crate::store::{Recovery, StoreSettings, Writer};
use crate::test_chain::{Home, at, chain, number, settings};

/// A store with the chain of the vectors, opened without a replica.
struct Stored {
    home: Home,
}

impl Stored {
    fn new() -> Self {
        let home = Home::new();
        let mut replica = home.started(settings());
        for run in chain().blocks.chunks(100) {
            replica.extend(&"a".parse().unwrap(), run).unwrap();
        }
        Self { home }
    }

    fn data(&self) -> PathBuf {
        self.home.directory.path().join("data")
    }

    fn open(&self) -> (Store, Writer) {
        let (store, writer, recovery) = Store::open(&self.data(), &StoreSettings::default()).unwrap();
        assert_eq!(recovery, Recovery::Complete);
        (store, writer)
    }

    fn replica(&self) -> Replica {
        self.home.open(settings())
    }
}

fn run(store: &Store) -> CheckReport {
    check(store, &mut |_| {})
}

fn flip_value(keyspace: &Keyspace, key: &[u8], at: usize) {
    let mut value = keyspace.get(key).unwrap().unwrap().to_vec();
    value[at] ^= 0x01;
    keyspace.insert(key, value).unwrap();
}

fn places(report: &CheckReport) -> Vec<&str> {
    report
        .problems()
        .iter()
        .map(|problem| problem.place.as_str())
        .collect()
}

#[test]
fn a_sound_store_has_no_problem() {
    let stored = Stored::new();
    let (store, _writer) = stored.open();
    let mut seen = Vec::new();
    let report = check(&store, &mut |progress| seen.push(progress));
    assert_eq!(report.problems(), []);
    let counts = report.counts();
    assert_eq!((counts.blocks, counts.checkpoints, counts.documents), (500, 6, 2));
    assert_eq!(
        counts.proven_checkpoints + 1,
        chain()
            .checkpoints
            .iter()
            .filter(|checkpoint| checkpoint.block_num > at(0))
            .count() as u64
    );
    assert_eq!((counts.leaves > 0, counts.undo_rows), (true, 500));
    assert!(
        seen.iter()
            .any(|progress| progress.part == CheckPart::Blocks
                && (progress.done, progress.total) == (500, 500))
    );
    assert_eq!(run(&store).problem_count(), 0);
}

#[test]
fn a_flip_anywhere_in_a_block_is_found_mended_and_filled_again() {
    let stored = Stored::new();
    let place = 250;
    let length = chain().blocks[place].block.bytes().len();
    let (store, mut writer) = stored.open();
    let original = store
        .keyspaces
        .blocks
        .get(number_key(at(place)))
        .unwrap()
        .unwrap()
        .to_vec();
    // The header's flags and hash, the start, the middle and the end of the canonical bytes.
    for offset in [0, 1, 32, 73, 73 + length / 2, 73 + length - 1] {
        if offset == 0 {
            let mut value = original.clone();
            value[0] ^= 0x80;
            store
                .keyspaces
                .blocks
                .insert(number_key(at(place)), value)
                .unwrap();
        } else {
            flip_value(&store.keyspaces.blocks, &number_key(at(place)), offset);
        }
        let report = run(&store);
        assert!(
            places(&report).contains(&format!("block {}", at(place)).as_str()),
            "offset {offset}: {:?}",
            report.problems()
        );
        store
            .keyspaces
            .blocks
            .insert(number_key(at(place)), original.clone())
            .unwrap();
    }
    flip_value(&store.keyspaces.blocks, &number_key(at(place)), 100);
    let report = run(&store);
    let repaired = repair(&mut writer, &report).unwrap();
    assert_eq!((repaired.blocks, repaired.left), (1, 0));
    assert!(!writer.have().contains(at(place)));
    assert_eq!(run(&store).problem_count(), 0);
    drop((store, writer));
    let mut replica = stored.replica();
    replica.fill_history(&chain().blocks[place..=place]).unwrap();
    assert_eq!(run(replica.store()).counts().blocks, 500);
    assert!(run(replica.store()).is_sound());
}

#[test]
fn a_block_in_the_place_of_another_is_found() {
    let stored = Stored::new();
    let (store, mut writer) = stored.open();
    let blocks = &store.keyspaces.blocks;
    // Right bytes under the wrong number.
    let other = blocks.get(number_key(at(11))).unwrap().unwrap();
    blocks.insert(number_key(at(10)), &*other).unwrap();
    let report = run(&store);
    assert_eq!(places(&report), [format!("block {}", at(10))]);
    // A sound block that links to nothing here.
    let forged = chain().blocks[10].block.clone().relinked(chain().genesis.0);
    let forged = crate::store::StoredBlock::new(&forged, 1);
    blocks.insert(number_key(at(10)), forged.to_bytes()).unwrap();
    let report = run(&store);
    assert_eq!(
        places(&report),
        [format!("block {}", at(10)), format!("block {}", at(11))]
    );
    assert_eq!(repair(&mut writer, &report).unwrap().blocks, 3);
    assert!(run(&store).is_sound());
    drop((store, writer));
    let mut replica = stored.replica();
    replica.fill_history(&chain().blocks[9..12]).unwrap();
    assert!(run(replica.store()).is_sound());
    assert_eq!(run(replica.store()).counts().blocks, 500);
}

#[test]
fn a_period_replaced_as_a_whole_contradicts_its_checkpoint() {
    let stored = Stored::new();
    let (store, _writer) = stored.open();
    let period = chain()
        .blocks
        .iter()
        .position(|block| block.block.number() == chain().checkpoints[1].block_num)
        .unwrap();
    // The last block of a period with other operations, and its hash in the checkpoint.
    let mut block = chain().blocks[period].block.block().clone();
    let put = honeygraph_chain::Operation::Put {
        path: honeygraph_chain::Path::from_slashed("balances/thief"),
        data: honeygraph_chain::JsonValue::Number(1.0),
    };
    let forged = vec![put, honeygraph_chain::Operation::WriteMarker];
    block.operations = honeygraph_chain::Operations::new(forged).unwrap();
    let block = honeygraph_chain::block::HashedBlock::from(block);
    let mut record = store.view().checkpoint(at(period)).unwrap().unwrap();
    record.block_hash = Some(block.hash());
    let stored_block = crate::store::StoredBlock::new(&block, 1).to_bytes();
    store
        .keyspaces
        .blocks
        .insert(number_key(at(period)), stored_block)
        .unwrap();
    store
        .keyspaces
        .checkpoints
        .insert(number_key(at(period)), serde_json::to_vec(&record).unwrap())
        .unwrap();
    let report = run(&store);
    assert_eq!(places(&report), [format!("checkpoint {}", at(period))]);
    assert!(matches!(report.problems()[0].remedy, Remedy::FetchAgain(range) if range.len() == 100));
}

#[test]
fn intervals_and_blocks_have_to_agree() {
    let stored = Stored::new();
    {
        let (store, _writer) = stored.open();
        store.keyspaces.blocks.remove(number_key(at(20))).unwrap();
        let keyspaces = &store.keyspaces;
        keyspaces.have.remove(number_key(at(0))).unwrap();
        keyspaces
            .have
            .insert(number_key(at(1)), number_key(at(400)))
            .unwrap();
        keyspaces
            .have
            .insert(number_key(at(401)), number_key(at(499)))
            .unwrap();
    }
    let (store, mut writer) = stored.open();
    let report = run(&store);
    assert_eq!(
        places(&report),
        [
            format!("interval {}..={}", at(401), at(499)),
            format!("blocks {0}..={0}", at(0)),
            format!("blocks {0}..={0}", at(20)),
        ]
    );
    repair(&mut writer, &report).unwrap();
    assert!(run(&store).is_sound(), "{:?}", run(&store).problems());
    let runs: Vec<_> = writer.have().iter().collect();
    assert_eq!(runs.len(), 2);
    assert_eq!(store.view().have().unwrap(), *writer.have());
}

#[test]
fn flipped_state_and_position_are_found() {
    let stored = Stored::new();
    let (store, _writer) = stored.open();
    let state = &store.keyspaces.state;
    let (key, value) = state.iter().nth(7).unwrap().into_inner().unwrap();
    for broken in [&b"123456789"[..], b"{", b" 1"] {
        state.insert(&*key, broken).unwrap();
        let report = run(&store);
        assert!(!report.is_sound(), "{:?}", String::from_utf8_lossy(broken));
        assert_eq!(report.problems()[0].remedy, Remedy::ComputeAgain);
    }
    state.insert(&*key, &*value).unwrap();
    // A lost leaf, a leaf below a leaf, and a key that is no path.
    state.remove(&*key).unwrap();
    assert!(places(&run(&store)).contains(&format!("state after block {}", at(499)).as_str()));
    state.insert(&*key, &*value).unwrap();
    let mut below = key.to_vec();
    below.extend_from_slice(&[b'a', 0, 1]);
    state.insert(&*below, "1").unwrap();
    assert!(
        run(&store)
            .problems()
            .iter()
            .any(|problem| problem.reason.contains("below another leaf"))
    );
    state.remove(&*below).unwrap();
    state.insert([7_u8], "1").unwrap();
    assert_eq!(places(&run(&store)), ["leaf"]);
    state.remove([7_u8]).unwrap();
    assert!(run(&store).is_sound());

    let meta = &store.keyspaces.meta;
    let text = String::from_utf8(meta.get(POSITION_KEY).unwrap().unwrap().to_vec()).unwrap();
    let digest = chain().checkpoints[0].state_digest.to_string();
    let current = store.view().position().unwrap().unwrap();
    let forged = text.replace(&current.state_digest.to_string(), &digest);
    meta.insert(POSITION_KEY, forged).unwrap();
    assert!(!run(&store).is_sound());
    meta.insert(POSITION_KEY, "{").unwrap();
    assert_eq!(places(&run(&store))[0], "position");
}

#[test]
fn flipped_checkpoints_documents_and_their_index_are_found() {
    let stored = Stored::new();
    let (store, mut writer) = stored.open();
    let keyspaces = std::sync::Arc::clone(&store.keyspaces);
    let record = store
        .view()
        .checkpoint(chain().checkpoints[2].block_num)
        .unwrap()
        .unwrap();
    let key = number_key(record.block_num);
    let sound = serde_json::to_vec(&record).unwrap();
    let other = chain().checkpoints[1].cid;
    let mut forged = [
        record.clone(),
        record.clone(),
        record.clone(),
        record.clone(),
        record.clone(),
    ];
    forged[0].state_hash = other;
    forged[1].block_hash = Some(other);
    forged[2].state_digest = Some(chain().checkpoints[1].state_digest);
    forged[3].root = other;
    forged[4].block_num = record.block_num.next();
    for (case, forged) in forged.iter().enumerate() {
        keyspaces
            .checkpoints
            .insert(key, serde_json::to_vec(forged).unwrap())
            .unwrap();
        assert!(!run(&store).is_sound(), "case {case}");
    }
    for at in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[at] ^= 0x04;
        keyspaces.checkpoints.insert(key, flipped).unwrap();
        if at % 16 == 0 {
            assert!(!run(&store).is_sound(), "byte {at}");
        }
    }
    keyspaces.checkpoints.insert(key, sound).unwrap();
    assert!(run(&store).is_sound());

    let id = record.state_hash.digest();
    keyspaces.checkpoint_ids.insert(id, number_key(at(0))).unwrap();
    let report = run(&store);
    assert_eq!(report.problem_count(), 2);
    repair(&mut writer, &report).unwrap();
    assert!(run(&store).is_sound());
    assert_eq!(
        store.view().checkpoint_by_id(record.state_hash).unwrap(),
        Some(record)
    );

    let (chunk, _) = keyspaces.documents.iter().next().unwrap().into_inner().unwrap();
    flip_value(&keyspaces.documents, &chunk, 1_000);
    let report = run(&store);
    assert_eq!(report.problem_count(), 1);
    assert!(report.problems()[0].place.starts_with("document Qm"));
    repair(&mut writer, &report).unwrap();
    assert!(run(&store).is_sound());
}

#[test]
fn flipped_undo_fork_peer_and_retry_rows_are_found_and_removed() {
    let stored = Stored::new();
    let (store, mut writer) = stored.open();
    let keyspaces = std::sync::Arc::clone(&store.keyspaces);
    let fork = crate::store::StoredBlock::new(&chain().blocks[3].block, 1);
    let mut transaction = writer.begin();
    transaction.put_fork_block(at(3), &fork);
    transaction
        .set_retry_queue([(number(5), serde_json::json!({"attempts": 1}))])
        .unwrap();
    transaction
        .put_source_cursor("one", &serde_json::json!({"block": 1}))
        .unwrap();
    transaction.commit().unwrap();
    assert!(run(&store).is_sound());
    assert_eq!(run(&store).counts().fork_blocks, 1);

    let (fork_row, _) = keyspaces
        .fork_blocks
        .first_key_value()
        .unwrap()
        .into_inner()
        .unwrap();
    flip_value(&keyspaces.fork_blocks, &fork_row, 80);
    keyspaces.undo.insert(number_key(at(499).next()), "x").unwrap();
    keyspaces.undo.insert(number_key(at(450)), "x").unwrap();
    keyspaces.peers.insert("http://a/", "{").unwrap();
    keyspaces.retry.insert(number_key(number(5)), "{").unwrap();
    keyspaces.sources.insert("one", "{").unwrap();
    let report = run(&store);
    assert_eq!(report.problem_count(), 6, "{:?}", report.problems());
    assert!(
        report
            .problems()
            .iter()
            .all(|problem| problem.remedy == Remedy::Forget)
    );
    assert_eq!(repair(&mut writer, &report).unwrap().rows, 6);
    assert!(run(&store).is_sound());
}

#[test]
fn undo_that_reads_but_is_wrong_is_found_by_the_digests() {
    let stored = Stored::new();
    let (store, _writer) = stored.open();
    let undo = &store.keyspaces.undo;
    let wrong = undo.get(number_key(at(490))).unwrap().unwrap();
    let place = (491..500)
        .find(|place| undo.get(number_key(at(*place))).unwrap().unwrap() != wrong)
        .unwrap();
    undo.insert(number_key(at(place)), &*wrong).unwrap();
    assert_eq!(places(&run(&store)), [format!("undo of block {}", at(place))]);
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Opens and checks a store whose files were damaged. `None`: nothing was noticed.
fn notice(data: &Path) -> Option<String> {
    match Store::open(data, &StoreSettings::default()) {
        Err(error) => Some(error.to_string()),
        Ok((store, _writer, recovery)) => {
            let report = run(&store);
            if let Some(problem) = report.problems().first() {
                return Some(problem.to_string());
            }
            match recovery {
                Recovery::LostCommits { found, acknowledged } => {
                    // What is left is a committed prefix: it is sound.
                    assert!(found < acknowledged);
                    Some("lost commits".to_owned())
                }
                Recovery::Complete => None,
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
    for entry in std::fs::read_dir(from.join("log").join("keyspaces"))
        .into_iter()
        .flatten()
    {
        let name = entry.unwrap().file_name();
        for below in ["tables", "blobs"] {
            let _ = std::fs::create_dir_all(to.join("log").join("keyspaces").join(&name).join(below));
        }
    }
}

#[test]
fn flipped_bytes_of_the_database_files_are_reported() {
    use rand::{RngExt as _, SeedableRng as _};
    let stored = Stored::new();
    {
        let (store, _writer) = stored.open();
        for keyspace in [
            &store.keyspaces.blocks,
            &store.keyspaces.state,
            &store.keyspaces.undo,
        ] {
            keyspace.rotate_memtable_and_wait().unwrap();
        }
    }
    let digest_before = {
        let (store, _writer) = stored.open();
        assert!(run(&store).is_sound());
        store.view().position().unwrap().unwrap()
    };
    let mut random = rand::rngs::StdRng::seed_from_u64(16);
    let scratch = tempfile::tempdir().unwrap();
    for file in files_below(&stored.data()) {
        let length = usize::try_from(std::fs::metadata(&file).unwrap().len()).unwrap();
        for _ in 0..if length == 0 { 0 } else { 3 } {
            let data = scratch.path().join("data");
            let _ = std::fs::remove_dir_all(&data);
            copy(&stored.data(), &data);
            let damaged = data.join(file.strip_prefix(stored.data()).unwrap());
            let mut bytes = std::fs::read(&damaged).unwrap();
            let offset = random.random_range(0..length);
            bytes[offset] ^= 1 << random.random_range(0..8);
            std::fs::write(&damaged, bytes).unwrap();
            if notice(&data).is_none() {
                // Not every byte means something; then what is read is what was written.
                let (store, writer, _) = Store::open(&data, &StoreSettings::default()).unwrap();
                assert_eq!(writer.position(), Some(&digest_before), "{damaged:?} at {offset}");
                for place in 0..500 {
                    let block = store.view().block(at(place)).unwrap().unwrap();
                    assert_eq!(
                        block.bytes,
                        chain().blocks[place].block.bytes(),
                        "{damaged:?} at {offset}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_flipped_byte_in_the_journal_is_noticed_or_leaves_a_committed_prefix() {
    use rand::{RngExt as _, SeedableRng as _};
    let stored = Stored::new();
    let journal = files_below(&stored.data())
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .unwrap();
    let sound = std::fs::read(&journal).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(61);
    let scratch = tempfile::tempdir().unwrap();
    let mut noticed = 0;
    for round in 0..20 {
        let data = scratch.path().join(round.to_string());
        copy(&stored.data(), &data);
        let damaged = data.join(journal.strip_prefix(stored.data()).unwrap());
        let mut bytes = sound.clone();
        bytes[random.random_range(0..=used)] ^= 1 << random.random_range(0..8);
        std::fs::write(&damaged, bytes).unwrap();
        if notice(&data).is_some() {
            noticed += 1;
        } else {
            let (_, writer, _) = Store::open(&data, &StoreSettings::default()).unwrap();
            let height = writer
                .position()
                .map_or(BlockNumber::default(), |now| now.state_height);
            assert_eq!(height, at(499));
        }
    }
    assert!(noticed > 10, "{noticed} of 20");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]

    /// I16: any flipped bit of a stored block's hash or bytes is found.
    #[test]
    fn any_flipped_bit_of_a_block_is_found(place in 0_usize..500, at_byte in proptest::prelude::any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let stored = Stored::new();
        let (store, _writer) = stored.open();
        let key = number_key(at(place));
        let mut value = store.keyspaces.blocks.get(key).unwrap().unwrap().to_vec();
        // Flags, digest and time of an old block are only covered by the database's own checksums.
        let covered: Vec<usize> = (1..33).chain(73..value.len()).collect();
        value[covered[at_byte.index(covered.len())]] ^= 1 << bit;
        store.keyspaces.blocks.insert(key, value).unwrap();
        let report = run(&store);
        let expected = format!("block {}", at(place));
        proptest::prop_assert!(places(&report).contains(&expected.as_str()), "{:?}", report.problems());
    }
}

#[test]
fn undo_of_irreversible_blocks_is_kept_for_dgraph_and_checked_too() {
    let stored = Stored::new();
    let (store, mut writer) = stored.open();
    let position = writer.position().unwrap().clone();
    let checkpoint = store.view().checkpoint(at(399)).unwrap().unwrap();
    let irreversible = checkpoint.anchor();
    assert!(irreversible.is_some());
    let mut transaction = writer.begin();
    transaction.set_position(Position {
        irreversible,
        ..position
    });
    transaction.commit().unwrap();
    let report = run(&store);
    assert_eq!(report.problems(), []);
    assert_eq!(report.counts().undo_rows, 500);

    let undo = &store.keyspaces.undo;
    let wrong = undo.get(number_key(at(350))).unwrap().unwrap();
    let place = (351..399)
        .find(|place| undo.get(number_key(at(*place))).unwrap().unwrap() != wrong)
        .unwrap();
    undo.insert(number_key(at(place)), &*wrong).unwrap();
    assert_eq!(places(&run(&store)), [format!("undo of block {}", at(place))]);
}
