//! I11: a process that is killed at any moment reopens at a committed prefix, and no committed block is lost.
//!
//! The test runs itself as a child process that commits blocks as fast as it can and says which are durable;
//! SIGKILL ends it at random moments. `CRASH_KILLS` sets how often, `CRASH_SEED` the moments.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use honeygraph_agent::replica::{ExtendOutcome, FetchedBlock, Replica, ReplicaSettings, StartDocuments};
use honeygraph_agent::store::check::check;
use honeygraph_agent::store::{Recovery, Store, StoreSettings};
use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::checkpoint::PreviousRoot;
use honeygraph_chain::{BlockNumber, ContentId};
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};
use rand::{RngExt as _, SeedableRng as _};

const CHILD_DIRECTORY: &str = "HONEYGRAPH_CRASH_DIRECTORY";
const KILLS: u64 = 25;
const SEED: u64 = 11;
/// Blocks of the chain; a child that has committed all of them is followed by one on an empty store.
const BLOCKS: usize = 3_000;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn settings() -> ReplicaSettings {
    ReplicaSettings {
        commit_blocks: 512,
        ..ReplicaSettings::new("spkcc")
    }
}

/// Small buffers, so that kills also hit tables that are being written.
fn store_settings() -> StoreSettings {
    StoreSettings {
        cache_bytes: 1 << 20,
        write_buffer_bytes: 64 << 10,
    }
}

/// The chain in files: the genesis document, and a line a block.
fn write_chain(directory: &Path) {
    let mut chain = ReferenceChain::from_vectors(ChainSettings::default()).unwrap();
    std::fs::write(directory.join("genesis.json"), chain.genesis_document()).unwrap();
    let mut file = std::io::BufWriter::new(std::fs::File::create(directory.join("blocks")).unwrap());
    for _ in 0..BLOCKS {
        let block = chain.next_block().unwrap();
        file.write_all(block.block.bytes()).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.flush().unwrap();
}

fn read_chain(directory: &Path) -> impl Iterator<Item = FetchedBlock> {
    let file = BufReader::new(std::fs::File::open(directory.join("blocks")).unwrap());
    file.split(b'\n').map(|line| FetchedBlock {
        block: HashedBlock::from_canonical(line.unwrap()).unwrap(),
        timestamp_ms: 1,
    })
}

/// The child: goes on from where the store stands, and says after each commit how far it has come.
#[test]
#[ignore = "the process that `killed_at_any_moment_no_committed_block_is_lost` kills"]
fn child() {
    let directory = PathBuf::from(std::env::var(CHILD_DIRECTORY).unwrap());
    let chain_directory = directory.parent().unwrap();
    let (_, writer, recovery) = Store::open(&directory, &store_settings()).unwrap();
    assert_eq!(recovery, Recovery::Complete);
    let mut replica = Replica::new(writer, settings()).unwrap();
    if replica.position().is_none() {
        let state = chain_directory.join("genesis.json");
        let state_id = ContentId::of(&std::fs::read(&state).unwrap());
        let documents = StartDocuments {
            state,
            state_id,
            prev_root: PreviousRoot::None,
            deltas: Vec::new(),
            anchor: None,
        };
        replica.start_from(&documents).unwrap();
    }
    let height = replica.position().unwrap().state_height;
    let mut blocks = read_chain(chain_directory)
        .skip_while(|block| block.block.number() <= height)
        .peekable();
    let mut random = rand::rngs::StdRng::seed_from_u64(height.get());
    let mut out = std::io::stdout();
    while blocks.peek().is_some() {
        let run: Vec<_> = blocks.by_ref().take(random.random_range(1..=8)).collect();
        let outcome = replica.extend(&"chain".parse().unwrap(), &run).unwrap();
        assert!(matches!(outcome, ExtendOutcome::Accepted { .. }), "{outcome:?}");
        // The last commit may still be under way: only what is durable is promised.
        if let Some(durable) = replica.writer().durable().position {
            writeln!(out, "\ncommitted {}", durable.state_height).unwrap();
            out.flush().unwrap();
        }
    }
}

/// One life of a child: what it said to be durable, and how it ended.
fn live(directory: &Path, patience: Duration) -> (Option<BlockNumber>, ExitStatus) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = process.stdout.take().unwrap();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(patience);
        process.kill().unwrap();
        process.wait().unwrap()
    });
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let ended = killer.join().unwrap();
    // Only whole lines: the last one may be cut.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let promised = whole
        .lines()
        .filter_map(|line| line.strip_prefix("committed ")?.parse().ok())
        .max();
    assert!(
        ended.code().is_none_or(|code| code == 0),
        "the child failed: {text}"
    );
    (promised, ended)
}

#[test]
fn killed_at_any_moment_no_committed_block_is_lost() {
    let kills = from_environment("CRASH_KILLS", KILLS);
    let mut random = rand::rngs::StdRng::seed_from_u64(from_environment("CRASH_SEED", SEED));
    let scratch = tempfile::tempdir().unwrap();
    write_chain(scratch.path());
    let (mut killed, mut chains, mut committed) = (0, 0, 0);
    let mut height: Option<BlockNumber> = None;
    while killed < kills {
        let directory = scratch.path().join(format!("data-{chains}"));
        // Half of the lives are so short that opening and starting are hit too.
        let longest = if random.random() { 150 } else { 900 };
        let patience = Duration::from_millis(random.random_range(5..longest));
        let (promised, ended) = live(&directory, patience);
        killed += u64::from(!ended.success());

        let (store, writer, recovery) = Store::open(&directory, &store_settings()).unwrap();
        assert_eq!(recovery, Recovery::Complete, "kill {killed}");
        let now = writer.position().map(|now| now.state_height);
        assert!(
            now >= promised.max(height),
            "kill {killed}: {now:?} is below {promised:?}, {height:?}"
        );
        let report = check(&store, &mut |_| {});
        assert_eq!(report.problems(), [], "kill {killed}");
        if let (Some(now), Some(height)) = (now, height) {
            committed += now.distance_from(height);
        }
        height = now;
        if ended.success() {
            chains += 1;
            height = None;
        }
    }
    // The kills did hit a process at work.
    assert!(committed > kills, "{committed} blocks in {kills} lives");
    eprintln!("{killed} kills, {committed} blocks, {chains} whole chains");
}
