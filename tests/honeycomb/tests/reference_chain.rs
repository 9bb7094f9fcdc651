//! The reference chain follows the chain rules, and the same seed gives the same chain.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::checkpoint::{CheckpointChain, DeltaDocument, DeltaWriter};
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::state::MemoryState;
use honeygraph_chain::state_document::state_content_id;
use honeygraph_chain::{BlockNumber, ContentId};
use honeygraph_honeycomb::generator::{Generator, GeneratorSettings};
use honeygraph_honeycomb::reference_chain::{ChainError, ChainSettings, ReferenceChain};
use serde_json::Value;

/// Few accounts and entries, so that deletes and roll-overs come soon.
fn small() -> ChainSettings {
    ChainSettings {
        generator: GeneratorSettings {
            accounts: 30,
            open_entries: 20,
            ..GeneratorSettings::default()
        },
        schedule: CheckpointSchedule {
            state_interval: 300,
            state_offset: 1,
            ..CheckpointSchedule::default()
        },
        ..ChainSettings::default()
    }
}

fn number(number: u64) -> BlockNumber {
    BlockNumber::try_from(number).unwrap()
}

#[test]
fn the_recorded_blocks_are_the_vectors() {
    let vectors: Value =
        serde_json::from_slice(include_bytes!("../../../chain/tests/data/honeycomb.json")).unwrap();
    let mut chain = ReferenceChain::from_vectors(ChainSettings::default()).unwrap();
    assert_eq!(vectors["genesis"]["cid"], chain.genesis_id().to_string());
    let mut checkpoints = vectors["checkpoints"].as_array().unwrap().iter();
    let mut running_index = 0;
    for expected in vectors["blocks"].as_array().unwrap() {
        let made = chain.next_block().unwrap();
        assert_eq!(expected["blockHash"], made.block.hash().to_string());
        let time = jiff::Timestamp::from_millisecond(made.unix_millis).unwrap();
        assert_eq!(expected["timestamp"], format!("{time:.3}"));
        assert_eq!(made.first_index, running_index);
        running_index += u64::try_from(expected["operations"].as_array().unwrap().len()).unwrap();
        if let Some(checkpoint) = &made.checkpoint {
            let expected = checkpoints.next().unwrap();
            assert_eq!(expected["cid"], checkpoint.anchor.state_hash.to_string());
            assert_eq!(
                expected["stateDigest"],
                checkpoint.anchor.state_digest.to_string()
            );
            assert_eq!(checkpoint.anchor.block_num, made.block.number());
        }
    }
    assert!(checkpoints.next().is_none());
    assert_eq!(chain.head().next_index, running_index);
    // And it goes on.
    assert_eq!(chain.next_block().unwrap().block.number().get(), 28_559_602);
}

#[test]
fn the_same_seed_gives_the_same_chain_and_another_seed_another() {
    let settings = small();
    let blocks = |seed| {
        let chain = ReferenceChain::from_vectors(ChainSettings { seed, ..settings }).unwrap();
        chain.take(700).collect::<Vec<_>>()
    };
    let (one, same, other) = (blocks(1), blocks(1), blocks(2));
    assert_eq!(one.len(), 700);
    assert_eq!(one, same);
    assert_eq!(one[..500], other[..500]);
    assert_ne!(one[699].block.hash(), other[699].block.hash());
}

/// Follows the chain as a node would: from bytes, with nothing but the chain rules.
#[test]
fn a_replay_by_the_chain_rules_reaches_the_same_state() {
    let mut chain = ReferenceChain::from_vectors(small()).unwrap();
    let (covered, mut state) = MemoryState::from_document(chain.genesis_document()).unwrap();
    let mut checkpoints = CheckpointChain::from_state(covered, chain.genesis_id());
    let mut delta = DeltaWriter::new(&checkpoints);
    let mut link = chain.genesis_id();
    let mut kinds = Vec::new();
    for _ in 0..1_500 {
        let made = chain.next_block().unwrap();
        let block = HashedBlock::from_canonical(made.block.bytes().to_vec()).unwrap();
        assert_eq!(block, made.block);
        assert_eq!(block.previous_hash(), link);
        assert_eq!(made.fork_hash, checkpoints.link());
        link = block.hash();
        let effect = state.apply(&block.block().operations).unwrap();
        assert_eq!(effect, made.effect);
        assert_eq!(state.digest(), made.state_digest);
        delta.push(&block.block().operations);
        let Some(checkpoint) = &made.checkpoint else {
            continue;
        };
        kinds.push(checkpoint.kind);
        let id = match checkpoint.kind {
            CheckpointKind::Delta => {
                let written = DeltaDocument::parse(&checkpoint.document).unwrap();
                assert_eq!(written.covered, block.number());
                delta.content_id(block.number()).unwrap()
            }
            CheckpointKind::State => state_content_id(block.number(), &state).unwrap(),
        };
        assert_eq!(id, checkpoint.anchor.state_hash);
        assert_eq!(id, ContentId::of(&checkpoint.document));
        assert_eq!(checkpoint.previous_id, checkpoints.link());
        assert_eq!(chain.document(id), Some(&*checkpoint.document));
        checkpoints = checkpoints.after(checkpoint.kind, block.number(), id);
        delta = DeltaWriter::new(&checkpoints);
        link = id;
    }
    assert_eq!(&checkpoints, chain.checkpoints());
    assert_eq!(&state, chain.state());
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == CheckpointKind::State)
            .count(),
        5
    );
    assert_eq!(kinds.len(), 15);
}

#[test]
fn a_fork_shares_the_past_and_goes_its_own_way() {
    let mut chain = ReferenceChain::from_vectors(small()).unwrap();
    let base = chain.genesis_block().get();
    let main: Vec<_> = chain.by_ref().take(900).collect();
    // In the middle of a period, at a delta, at a full state, at the head and at the genesis.
    for length in [550, 600, 700, 900, 0] {
        let at = number(base + length);
        let mut fork = chain.fork(at, 7).unwrap();
        let mut again = chain.fork(at, 7).unwrap();
        let length = usize::try_from(length).unwrap();
        assert!(fork.kept().eq(&main[..length]));
        let mut replayed = MemoryState::from_document(fork.genesis_document()).unwrap().1;
        for block in &main[..length] {
            replayed.apply(&block.block.block().operations).unwrap();
        }
        assert_eq!(fork.state(), &replayed);
        let link = match main[..length].last() {
            Some(last) => last
                .checkpoint
                .as_ref()
                .map_or(last.block.hash(), |checkpoint| checkpoint.anchor.state_hash),
            None => fork.genesis_id(),
        };
        let first = fork.next_block().unwrap();
        assert_eq!(first.block.previous_hash(), link);
        assert_eq!(first.block.number(), at.next());
        assert_eq!(Some(&first), again.next().as_ref());
        let mut differs = false;
        for offset in 1..250 {
            let block = fork.next_block().unwrap();
            assert_eq!(Some(&block), again.next().as_ref());
            differs |= main
                .get(length + offset)
                .is_some_and(|main| main.block.hash() != block.block.hash());
        }
        assert!(differs || length == 900);
        // A checkpoint of the fork names the same deltas before the fork as the main chain does.
        let delta = fork
            .kept()
            .rev()
            .filter_map(|block| block.checkpoint.as_ref())
            .find(|checkpoint| checkpoint.kind == CheckpointKind::Delta)
            .unwrap();
        for earlier in DeltaDocument::parse(&delta.document).unwrap().chain {
            assert!(fork.document(earlier.hash).is_some());
        }
    }
    let ahead = number(base + 901);
    assert!(matches!(chain.fork(ahead, 7), Err(ChainError::NotKept { .. })));
}

#[test]
fn memory_and_state_stay_bounded() {
    let settings = ChainSettings {
        kept_blocks: 150,
        ..small()
    };
    let mut chain = ReferenceChain::from_vectors(settings).unwrap();
    let mut most = 0;
    for _ in 0..4_000 {
        chain.next_block().unwrap();
        most = most.max(chain.state().len());
    }
    assert_eq!(chain.kept().len(), 150);
    let head = chain.head().number;
    assert!(chain.block(head.saturating_sub(150)).is_none());
    assert_eq!(chain.block(head.saturating_sub(149)), chain.kept().next());
    assert!(matches!(
        chain.fork(head.saturating_sub(3_000), 7),
        Err(ChainError::NotKept { .. })
    ));
    // The vectors' leaves, 3 an account, 9 an order, at most 14 a contract, 1 a message.
    assert!(most < 1_500 + 80 * 3 + 20 * (9 + 14 + 1), "{most} leaves");
}

#[test]
fn indexes_find_their_blocks() {
    let mut chain = ReferenceChain::from_vectors(small()).unwrap();
    for _ in 0..600 {
        chain.next_block().unwrap();
    }
    for block in chain.kept().filter(|block| !block.indexes().is_empty()) {
        let indexes = block.indexes();
        let part: Vec<_> = chain.blocks_with_indexes(indexes.start..=indexes.start).collect();
        assert_eq!(part, [block]);
        let mut whole = chain.blocks_with_indexes(indexes.end - 1..=indexes.end - 1);
        assert_eq!(whole.next(), Some(block));
        // Up to the next block that has operations.
        let mut number = block.block.number();
        for empty in whole {
            number = number.next();
            assert_eq!(empty.block.number(), number);
            assert!(empty.indexes().is_empty());
        }
        let next = chain.block(number.next());
        assert!(next.is_none_or(|next| !next.indexes().is_empty()));
    }
    let last = chain.head().next_index;
    assert_eq!(chain.blocks_with_indexes(last..=u64::MAX).count(), 0);
    let with_operations = chain.blocks_with_indexes(0..=last).next().unwrap();
    let first = with_operations.block.number().get() - chain.genesis_block().get();
    assert_eq!(chain.blocks_with_indexes(0..=last).count() as u64, 601 - first);
}

#[test]
fn blocks_have_the_wanted_size() {
    let settings = ChainSettings {
        generator: GeneratorSettings::benchmark(),
        ..ChainSettings::default()
    };
    let document = br#"[102,{"balances":{"alice":5}}]"#;
    let chain = ReferenceChain::from_genesis(document, settings).unwrap();
    let (mut operations, mut bytes) = (0, 0);
    for block in chain.take(2_000) {
        operations += block.block.block().operations.as_slice().len();
        bytes += block.block.bytes().len();
    }
    assert!((18_000..22_000).contains(&operations), "{operations} operations");
    assert!((3_400_000..4_600_000).contains(&bytes), "{bytes} bytes");
}

#[test]
fn content_fits_whatever_shape_the_state_has() {
    let odd = br#"[102,{"balances":{"alice":{"x":1},"bob":"many","carol":1e300,"dan":-4},"contract":{"bob":7,"dan":{"1":2}},"runners":{"carol":5},"spk":{"dan":{"deep":{"er":1}}},"stats":{"lastBlock":"?"}}]"#;
    let chain = ReferenceChain::from_genesis(odd, small()).unwrap();
    assert_eq!(chain.take(1_000).count(), 1_000);
    for unfit in [
        r#"[102,{"balances":1}]"#,
        r#"[102,{"dex":{"hive":1}}]"#,
        r#"[102,{"stats":{"lastBlock":{"x":1}}}]"#,
    ] {
        let mut chain = ReferenceChain::from_genesis(unfit.as_bytes(), small()).unwrap();
        assert!(
            matches!(chain.next_block(), Err(ChainError::UnfitState(_))),
            "{unfit}"
        );
    }
}

#[test]
fn a_generator_needs_no_invented_account() {
    let settings = GeneratorSettings {
        accounts: 0,
        ..GeneratorSettings::default()
    };
    assert!(Generator::new(settings, 1, &MemoryState::default()).is_err());
}
