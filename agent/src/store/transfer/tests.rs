use std::path::{Path, PathBuf};

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::checkpoint::PreviousRoot;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::format::{BlockRecord, Record, RecordReader, RecordWriter};
use super::*;
use crate::replica::{Replica, StartDocuments};
use crate::store::CheckpointRecord;
use crate::store::check::check;
use crate::test_chain::{Home, at, chain, settings};

/// How a record of a file is changed.
type Change<'a> = Box<dyn Fn(Record) -> Vec<Record> + 'a>;

fn options() -> ImportOptions {
    ImportOptions {
        network: "spkcc".to_owned(),
        trusted_checkpoint: None,
        document_bytes_max: 1 << 30,
    }
}

fn full() -> (Home, Replica) {
    let home = Home::new();
    let mut replica = home.started(settings());
    for run in chain().blocks.chunks(100) {
        replica.extend(&"a".parse().unwrap(), run).unwrap();
    }
    (home, replica)
}

fn everything() -> ExportOptions {
    ExportOptions {
        from: None,
        to: None,
        overwrite: Overwrite::Refuse,
    }
}

fn write(replica: &Replica, path: &Path, options: &ExportOptions) -> Exported {
    export(&replica.store().view(), path, options, &mut |_| {}).unwrap()
}

fn take(replica: &mut Replica, path: &Path, options: &ImportOptions) -> Result<Imported, TransferError> {
    import(replica, path, options, &mut |_| {})
}

fn exported() -> (tempfile::TempDir, PathBuf, Replica, Home) {
    let (home, replica) = full();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chain.honeygraph");
    write(&replica, &path, &everything());
    (directory, path, replica, home)
}

fn assert_sound(replica: &Replica) {
    let report = check(replica.store(), &mut |_| {});
    assert_eq!(report.problems(), []);
}

fn assert_untouched(replica: &mut Replica) {
    assert_eq!(replica.position(), None);
    assert!(replica.writer().have().is_empty());
    assert_eq!(check(replica.store(), &mut |_| {}).counts().documents, 0);
}

/// The file with its records changed and everything around them right.
fn rewritten(path: &Path, to: &Path, change: impl Fn(Record) -> Vec<Record>) {
    let mut reader = RecordReader::open(path).unwrap();
    let file = std::fs::File::create(to).unwrap();
    let mut writer = RecordWriter::new(file, reader.header()).unwrap();
    while let Some(record) = reader.next().unwrap() {
        for record in change(record) {
            writer.write(&record).unwrap();
        }
    }
    writer.finish().unwrap();
}

#[test]
fn a_file_starts_an_empty_store_with_history_and_all() {
    let (directory, path, source, _home) = exported();
    let mut seen = Vec::new();
    let home = Home::new();
    let mut replica = home.open(settings());
    let outcome = import(&mut replica, &path, &options(), &mut |progress| {
        seen.push(progress);
    })
    .unwrap();
    // The chain of the vectors holds a full state in its middle, from which the store starts.
    let state = chain()
        .checkpoints
        .iter()
        .find(|checkpoint| checkpoint.block_num > at(0) && checkpoint.block_num.get() % 28_800 == 18_601)
        .unwrap();
    assert_eq!(
        outcome,
        Imported {
            started_at: Some(state.block_num),
            new_blocks: 500,
            left_out: 0,
            state_height: at(499),
        }
    );
    let (there, here) = (source.position().unwrap(), replica.position().unwrap());
    assert_eq!(
        (here.state_digest, here.link(), here.history_start),
        (there.state_digest, there.link(), at(0))
    );
    assert_eq!(here.checkpoints, there.checkpoints);
    assert_sound(&replica);
    assert_eq!(
        seen.last().map(|progress| (progress.done, progress.total)),
        Some((500, 500))
    );
    // Nothing is left beside the store, and taking it again changes nothing.
    assert!(!home.directory.path().join("data/import-state.json.part").exists());
    assert!(!directory.path().join("chain.honeygraph.part").exists());
    assert_eq!(take(&mut replica, &path, &options()).unwrap().new_blocks, 0);
}

#[test]
fn parts_fill_gaps_and_extend_without_replacing() {
    let (_home, source) = full();
    let directory = tempfile::tempdir().unwrap();
    let (low, high) = (directory.path().join("low"), directory.path().join("high"));
    let first_part = ExportOptions {
        to: Some(at(229)),
        ..everything()
    };
    let exported = write(&source, &low, &first_part);
    assert_eq!(exported.header.blocks, 230);
    let from = ExportOptions {
        from: Some(at(150)),
        ..everything()
    };
    write(&source, &high, &from);

    let target = Home::new();
    let mut replica = target.started(settings());
    let peer = "a".parse().unwrap();
    replica.extend(&peer, &chain().blocks[..120]).unwrap();
    let hole = BlockRange::new(at(40), at(60)).unwrap();
    replica.discard_blocks(hole).unwrap();
    // What lies behind a hole at the front cannot be taken yet.
    let outcome = take(&mut replica, &high, &options()).unwrap();
    assert_eq!((outcome.new_blocks, outcome.left_out), (0, 350));
    let outcome = take(&mut replica, &low, &options()).unwrap();
    assert_eq!(
        (outcome.started_at, outcome.new_blocks, outcome.left_out),
        (None, 21 + 110, 0)
    );
    let outcome = take(&mut replica, &high, &options()).unwrap();
    assert_eq!((outcome.new_blocks, outcome.state_height), (270, at(499)));
    assert_sound(&replica);
    assert_eq!(
        replica.position().unwrap().state_digest,
        source.position().unwrap().state_digest
    );
}

/// A replica that started at the 400th block, from the full state at the 300th and the delta after it.
fn started_late(home: &Home) -> Replica {
    let (state, delta) = (&chain().checkpoints[2], &chain().checkpoints[3]);
    let documents = StartDocuments {
        state: home.file("state", &state.document.to_canonical()),
        state_id: state.cid,
        prev_root: PreviousRoot::Known(chain().genesis.0),
        deltas: vec![(delta.cid, home.file("delta", &delta.document.to_canonical()))],
        anchor: None,
    };
    let mut replica = home.open(settings());
    assert_eq!(replica.start_from(&documents).unwrap(), at(399));
    replica
        .extend(&"a".parse().unwrap(), &chain().blocks[400..450])
        .unwrap();
    replica
}

#[test]
fn history_that_hangs_on_nothing_that_is_stored_is_left_out() {
    use honeygraph_chain::checkpoint::{CheckpointChain, DeltaWriter};
    let (directory, path, _source, _home) = exported();
    // Another period, right in itself, and nothing from there to where the store begins.
    let mut delta = DeltaWriter::new(&CheckpointChain {
        last_block: at(0).previous().unwrap(),
        root: chain().genesis.0,
        prev_root: PreviousRoot::None,
        deltas: Vec::new(),
    });
    let mut link = chain().genesis.0;
    let mut forged = std::collections::BTreeMap::new();
    for place in 0..100 {
        let mut block = chain().blocks[place].block.block().clone();
        if place == 50 {
            block.operations = chain().blocks[51].block.block().operations.clone();
        }
        block.previous_hash = link;
        delta.push(&block.operations);
        let block = HashedBlock::from(block);
        link = block.hash();
        forged.insert(block.number(), block.bytes().to_vec());
    }
    let id = delta.content_id(at(99)).unwrap();
    let lie = directory.path().join("lie");
    rewritten(&path, &lie, |record| match record {
        Record::Block(block) if block.number <= at(99) => vec![Record::Block(BlockRecord {
            bytes: forged[&block.number].clone(),
            ..block
        })],
        Record::Checkpoint(record) if record.block_num == at(99) => {
            vec![Record::Checkpoint(CheckpointRecord {
                state_hash: id,
                block_hash: Some(link),
                ..record
            })]
        }
        Record::Block(block) if block.number < at(400) => vec![],
        Record::Checkpoint(record) if record.block_num == at(199) => vec![],
        record => vec![record],
    });
    let home = Home::new();
    let mut replica = started_late(&home);
    let outcome = take(&mut replica, &lie, &options()).unwrap();
    assert_eq!((outcome.new_blocks, outcome.left_out), (50, 100));
    assert_eq!(outcome.state_height, at(499));
    assert_eq!(replica.position().unwrap().history_start, at(400));
    assert_eq!(replica.store().view().checkpoint(at(99)).unwrap(), None);

    // Down to the full state everything hangs on the blocks that are stored. No document names the block of that:
    // what is below it is taken where the store knows its hash.
    let outcome = take(&mut replica, &path, &options()).unwrap();
    assert_eq!((outcome.new_blocks, outcome.left_out), (100, 300));
    let (_other, full) = full();
    let known = full.store().view().checkpoint(at(299)).unwrap().unwrap();
    replica.learn_checkpoints(&[known]).unwrap();
    let outcome = take(&mut replica, &path, &options()).unwrap();
    assert_eq!((outcome.new_blocks, outcome.left_out), (300, 0));
    assert_eq!(replica.position().unwrap().history_start, at(0));
    assert_sound(&replica);
}

#[test]
fn stored_delta_documents_are_handed_on() {
    let home = Home::new();
    let mut source = home.open(settings());
    let deltas: Vec<_> = chain().checkpoints[..2]
        .iter()
        .map(|checkpoint| {
            let name = checkpoint.cid.to_string();
            let path = home.file(&name, &checkpoint.document.to_canonical());
            (checkpoint.cid, path)
        })
        .collect();
    let (state_id, document) = &chain().genesis;
    let documents = StartDocuments {
        state: home.file("genesis.json", document),
        state_id: *state_id,
        prev_root: PreviousRoot::None,
        deltas,
        anchor: None,
    };
    let height = source.start_from(&documents).unwrap();
    let next = chain()
        .blocks
        .iter()
        .position(|block| block.block.number() > height)
        .unwrap();
    source
        .extend(&"a".parse().unwrap(), &chain().blocks[next..next + 50])
        .unwrap();
    let path = home.directory.path().join("file");
    let exported = write(&source, &path, &everything());
    assert_eq!(exported.header.start.as_ref().unwrap().deltas.len(), 2);

    let target = Home::new();
    let mut replica = target.open(settings());
    let outcome = take(&mut replica, &path, &options()).unwrap();
    assert_eq!(
        (outcome.started_at, outcome.new_blocks, outcome.state_height),
        (Some(height), 50, at(next + 49))
    );
    assert_sound(&replica);
}

#[test]
fn a_damaged_or_cut_file_changes_nothing() {
    use rand::{RngExt as _, SeedableRng as _};
    let (directory, path, _source, _home) = exported();
    let sound = std::fs::read(&path).unwrap();
    let target = Home::new();
    let mut replica = target.open(settings());
    let mut random = rand::rngs::StdRng::seed_from_u64(3);
    let damaged = directory.path().join("damaged");
    let mut cases = vec![
        Vec::new(),
        b"not an export".to_vec(),
        [sound.clone(), b"x".to_vec()].concat(),
    ];
    for _ in 0..12 {
        cases.push(sound[..random.random_range(1..sound.len())].to_vec());
        let mut flipped = sound.clone();
        flipped[random.random_range(0..sound.len())] ^= 1 << random.random_range(0..8);
        cases.push(flipped);
    }
    for bytes in cases {
        std::fs::write(&damaged, &bytes).unwrap();
        match take(&mut replica, &damaged, &options()) {
            Err(TransferError::Unusable { .. }) => assert_untouched(&mut replica),
            // A bit of a frame header that means nothing.
            Ok(outcome) => panic!("{} bytes: {outcome:?}", bytes.len()),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of lies")]
fn files_that_lie_are_refused_before_anything_is_taken() {
    let (directory, path, _source, _home) = exported();
    let target = Home::new();
    let mut replica = target.open(settings());
    let lie = directory.path().join("lie");
    let is = |record: &Record, number: BlockNumber| matches!(record, Record::Block(block) if block.number == number);
    let forged = |number: BlockNumber, block: HashedBlock| {
        Record::Block(BlockRecord {
            number,
            timestamp_ms: 1,
            bytes: block.bytes().to_vec(),
        })
    };
    let unlinked = chain().blocks[30].block.clone().relinked(chain().genesis.0);
    let mut other = chain().blocks[99].block.block().clone();
    let put = honeygraph_chain::Operation::Put {
        path: honeygraph_chain::Path::from_slashed("balances/thief"),
        data: honeygraph_chain::JsonValue::Number(1.0),
    };
    let marked = vec![put, honeygraph_chain::Operation::WriteMarker];
    other.operations = honeygraph_chain::Operations::new(marked).unwrap();
    let other = HashedBlock::from(other);
    let cases: Vec<(&str, Change<'_>)> = vec![
        (
            "links to",
            Box::new(|record| {
                if is(&record, at(30)) {
                    vec![forged(at(30), unlinked.clone())]
                } else {
                    vec![record]
                }
            }),
        ),
        (
            "is block",
            Box::new(|record| {
                if is(&record, at(30)) {
                    vec![forged(at(30), chain().blocks[31].block.clone())]
                } else {
                    vec![record]
                }
            }),
        ),
        (
            "out of order",
            Box::new(|record| {
                if is(&record, at(30)) {
                    vec![record.clone(), record]
                } else {
                    vec![record]
                }
            }),
        ),
        (
            "has another block",
            Box::new(|record| {
                if is(&record, at(99)) {
                    vec![forged(at(99), other.clone())]
                } else {
                    vec![record]
                }
            }),
        ),
        (
            "compute to",
            Box::new(|record| match record {
                Record::Block(block) if block.number == at(99) => vec![forged(at(99), other.clone())],
                Record::Checkpoint(mut record) if record.block_num == at(99) => {
                    record.block_hash = Some(other.hash());
                    vec![Record::Checkpoint(record)]
                }
                record => vec![record],
            }),
        ),
        (
            "does not name",
            Box::new(|record| match record {
                Record::Document(_) => vec![Record::Document(chain().genesis.0)],
                record => vec![record],
            }),
        ),
        (
            "has content id",
            Box::new(|record| match record {
                Record::Piece(mut piece) => {
                    piece[500] ^= 1;
                    vec![Record::Piece(piece)]
                }
                record => vec![record],
            }),
        ),
        (
            "is missing",
            Box::new(|record| match record {
                Record::Piece(_) | Record::Document(_) => vec![],
                record => vec![record],
            }),
        ),
        (
            "checkpoints of its documents",
            Box::new(|record| match record {
                Record::Checkpoint(_) => vec![],
                Record::Block(block) if block.number > at(99) => vec![],
                record => vec![record],
            }),
        ),
    ];
    for (expected, change) in cases {
        rewritten(&path, &lie, change);
        let error = take(&mut replica, &lie, &options()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert_untouched(&mut replica);
    }
}

#[test]
fn other_networks_versions_sizes_and_chains_are_refused() {
    let (directory, path, mut source, _home) = exported();
    let target = Home::new();
    let mut replica = target.open(settings());
    let other = ImportOptions {
        network: "dlux".to_owned(),
        ..options()
    };
    let error = take(&mut replica, &path, &other).unwrap_err();
    assert!(matches!(error, TransferError::OtherNetwork { .. }), "{error}");
    let small = ImportOptions {
        document_bytes_max: 1_000,
        ..options()
    };
    let error = take(&mut replica, &path, &small).unwrap_err();
    assert!(error.to_string().contains("larger than allowed"), "{error}");

    let raw = |bytes: &[u8]| {
        let file = directory.path().join("raw");
        std::fs::write(&file, zstd::encode_all(bytes, 1).unwrap()).unwrap();
        file
    };
    let header = |text: &str| {
        let payload = [&[1_u8], text.as_bytes()].concat();
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[..], &payload, &crc32fast::hash(&payload).to_be_bytes()].concat()
    };
    let newer = raw(&header(r#"{"format":"honeygraph-export","version":2,"else":[]}"#));
    let error = take(&mut replica, &newer, &options()).unwrap_err();
    assert!(
        matches!(
            error,
            TransferError::TooNew {
                found: 2,
                supported: 1
            }
        ),
        "{error}"
    );
    let impossible = raw(&header(
        r#"{"format":"honeygraph-export","version":1,"network":"spkcc","schedule":{"deltaInterval":0,"deltaOffset":0,"stateInterval":0,"stateOffset":0},"range":null,"blocks":0,"start":null}"#,
    ));
    let error = take(&mut replica, &impossible, &options()).unwrap_err();
    assert!(error.to_string().contains("impossible blocks"), "{error}");
    // A record that claims 4 GiB, and a bomb of zeros.
    for bytes in [vec![0xFF; 64], vec![0; 64 << 20]] {
        let error = take(&mut replica, &raw(&bytes), &options()).unwrap_err();
        assert!(matches!(error, TransferError::Unusable { .. }), "{error}");
    }
    assert_untouched(&mut replica);

    // A store of another chain keeps what it has.
    let home = Home::new();
    let mut forked = home.started(settings());
    let mut block = chain().blocks[0].block.block().clone();
    block.operations = honeygraph_chain::Operations::new(Vec::new()).unwrap();
    let put = honeygraph_chain::Operation::Put {
        path: honeygraph_chain::Path::from_slashed("balances/fork"),
        data: honeygraph_chain::JsonValue::Number(2.0),
    };
    let marked = vec![put, honeygraph_chain::Operation::WriteMarker];
    block.operations = honeygraph_chain::Operations::new(marked).unwrap();
    let fetched = crate::replica::FetchedBlock {
        block: HashedBlock::from(block),
        timestamp_ms: 1,
    };
    forked.extend(&"a".parse().unwrap(), &[fetched]).unwrap();
    let before = forked.position().cloned();
    let error = take(&mut forked, &path, &options()).unwrap_err();
    assert!(matches!(error, TransferError::OtherChain { .. }), "{error}");
    assert_eq!(forked.position().cloned(), before);

    let error = export(&source.store().view(), &path, &everything(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, TransferError::Exists { .. }), "{error}");
    let again = ExportOptions {
        overwrite: Overwrite::Replace,
        ..everything()
    };
    let bytes = std::fs::read(&path).unwrap();
    write(&source, &path, &again);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    // Without a state there is nothing to start from.
    for row in [
        chain().genesis.0,
        chain().checkpoints[2].cid,
        chain().checkpoints[3].cid,
    ] {
        let mut transaction = source.writer().begin();
        transaction.remove_document(row).unwrap();
        transaction.commit().unwrap();
    }
    let bare = directory.path().join("bare");
    assert_eq!(write(&source, &bare, &everything()).header.start, None);
    let error = take(&mut replica, &bare, &options()).unwrap_err();
    assert!(matches!(error, TransferError::NoStart), "{error}");
}

#[test]
fn a_checkpoint_that_is_vouched_for_has_to_be_proven() {
    let (_directory, path, _source, _home) = exported();
    let target = Home::new();
    let mut replica = target.open(settings());
    let last = chain().checkpoints.last().unwrap();
    let wants = |block, id| ImportOptions {
        trusted_checkpoint: Some((block, id)),
        ..options()
    };
    let refused = [
        (last.block_num, chain().genesis.0, "its checkpoint there is"),
        (last.block_num.saturating_add(100), last.cid, "not in the file"),
        (
            chain().checkpoints[0].block_num,
            chain().checkpoints[0].cid,
            "starts later",
        ),
    ];
    for (block, id, expected) in refused {
        let error = take(&mut replica, &path, &wants(block, id)).unwrap_err();
        assert!(matches!(error, TransferError::NotTrusted { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_untouched(&mut replica);
    }
    let outcome = take(&mut replica, &path, &wants(last.block_num, last.cid)).unwrap();
    assert_eq!(outcome.new_blocks, 500);
}
