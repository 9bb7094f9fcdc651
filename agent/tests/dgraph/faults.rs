//! What goes wrong with a Dgraph, scenario by scenario, under a node that a honeycomb feeds: nothing is lost,
//! nothing is doubled, the log goes on, the status says what is the matter, and in the end Dgraph is what the log is.

#[path = "faults/scenario.rs"]
mod scenario;
#[path = "faults/wire.rs"]
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use honeygraph_agent::dgraph::client::{Mutation, Query, Reading, Uid};
use honeygraph_agent::dgraph::projection::{
    Cursor, Mend, Progress, Projection, ProjectionSettings, ProjectionStore, StateCursor, Verification,
    Verified, Writers,
};
use honeygraph_chain::Operation;
use honeygraph_chain::canonical_json::JsonValue;
use honeygraph_honeycomb::honeycomb_node::HoneycombNode;
use honeygraph_honeycomb::receiver::{ReceiverSettings, Sending};
use libtest_mimic::Trial;
use serde_json::Value;

use super::World;
use super::cluster::ready;
use crate::common::Network;
use crate::equality::compare;
use crate::log::Log;
use scenario::{Node, Scenario, cluster, reader};
use wire::{Passing, Wire};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        world.own("faults::alpha_killed_in_a_transaction", alpha_killed),
        world.own("faults::zero_away_for_a_minute", zero_away),
        world.own("faults::dgraph_wiped", wiped),
        world.own("faults::dgraph_restored_from_an_older_copy", restored),
        world.own("faults::value_edited_by_hand", edited),
        world.own("faults::two_nodes_in_shared_with_different_forks", forks),
        world.own("faults::block_of_50_megabytes", large_block),
        world.own("faults::values_of_40_megabytes_are_written_anew", large_values),
        world.own_unless("faults::disk_full_in_dgraph", no_mount, disk_full),
    ]
}

async fn alpha_killed(program: PathBuf, directory: PathBuf) {
    let cluster = cluster(&program, &directory).await;
    let wire = Wire::start(cluster.alpha_address()).await;
    let mut scenario = Scenario::start_behind(cluster, &wire.url()).await;

    for round in 0..3 {
        // Half of the step arrives.
        wire.set(Passing::HalfOfAStep);
        scenario.grow(20).await;
        wire.is_cut().await;
        restart_killed(&mut scenario, &wire).await;
        scenario.node.wait_in_step(&scenario.network).await;

        // All of it arrives, and is committed, and nobody is told.
        wire.set(Passing::StepWithoutAnswer);
        let before = applied(&scenario).await;
        scenario.grow(20).await;
        while applied(&scenario).await == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        restart_killed(&mut scenario, &wire).await;
        scenario.node.wait_in_step(&scenario.network).await;

        // It dies whatever it is doing while one step follows the other.
        let before = scenario.node.status().await.0.applied_block;
        scenario.grow(400 + 100 * round).await;
        scenario
            .node
            .wait_for("a step", |dgraph, _| dgraph.applied_block > before)
            .await;
        restart_killed(&mut scenario, &wire).await;
        scenario.node.wait_in_step(&scenario.network).await;
    }
    let failed = "honeygraph_dgraph_transactions_total{outcome=\"unknown\"}";
    assert!(scenario.node.metric(failed).await > 0);
    scenario.end().await;
}

/// Kills the alpha, sees that the log goes on and the status says so, and starts it again.
async fn restart_killed(scenario: &mut Scenario, wire: &Wire) {
    scenario.cluster.kill_alpha();
    wire.set(Passing::All);
    scenario.grow(10).await;
    scenario
        .node
        .wait_for("it to know", |dgraph, _| {
            !dgraph.connected && dgraph.last_error.is_some() && dgraph.lag_blocks > Some(0)
        })
        .await;
    assert_eq!(scenario.node.metric("honeygraph_dgraph_up").await, 0);
    assert!(scenario.node.metric("honeygraph_dgraph_lag_blocks").await > 0);
    scenario.cluster.start_alpha();
}

/// The cursor in Dgraph, by another client.
async fn applied(scenario: &Scenario) -> Value {
    let query = Query::new("{ q(func: has(network)) { appliedBlock } }");
    let answer = scenario.cluster.client().query(&query, Reading::Strict).await;
    answer.unwrap().read::<Value>().unwrap()["q"][0]["appliedBlock"].clone()
}

/// Seconds that the zero is away; `DGRAPH_ZERO_AWAY_SECONDS` sets others.
const ZERO_AWAY: u64 = 60;

async fn zero_away(program: PathBuf, directory: PathBuf) {
    let away = std::env::var("DGRAPH_ZERO_AWAY_SECONDS").map_or(ZERO_AWAY, |text| {
        text.parse().expect("DGRAPH_ZERO_AWAY_SECONDS is a number")
    });
    let mut scenario = Scenario::start(cluster(&program, &directory).await).await;
    scenario.cluster.kill_zero();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(away) {
        // As often as blocks come; one every 3 s is usual.
        tokio::time::sleep(Duration::from_millis(500)).await;
        scenario.grow(2).await;
    }
    scenario
        .node
        .wait_for("it to be behind", |dgraph, _| {
            dgraph.lag_blocks > Some(0) && dgraph.last_error.is_some()
        })
        .await;
    scenario.cluster.start_zero();
    scenario.node.wait_in_step(&scenario.network).await;
    scenario.end().await;
}

async fn wiped(program: PathBuf, directory: PathBuf) {
    let mut scenario = Scenario::start(cluster(&program, &directory).await).await;
    // By a client.
    let client = scenario.cluster.client();
    super::cluster::eventually(|| client.drop_all()).await;
    scenario.grow(20).await;
    scenario.node.wait_in_step(&scenario.network).await;

    // With its disk, zero's too: it is another cluster at the same address.
    scenario.cluster.kill_alpha();
    scenario.cluster.kill_zero();
    for folder in ["p", "w", "t", "zw"] {
        let _ = std::fs::remove_dir_all(directory.join(folder));
    }
    scenario.grow(20).await;
    scenario.cluster.start_zero();
    scenario.cluster.start_alpha();
    scenario.node.wait_in_step(&scenario.network).await;
    scenario.end().await;
}

async fn restored(program: PathBuf, directory: PathBuf) {
    let mut scenario = Scenario::start(cluster(&program, &directory).await).await;
    // A copy is taken of an alpha that is stopped.
    scenario.cluster.kill_alpha();
    let copy = directory.join("copy");
    for folder in ["p", "w"] {
        copy_folder(&directory.join(folder), &copy.join(folder));
    }
    scenario.cluster.start_alpha();
    ready(&scenario.cluster.client()).await;
    scenario.grow(250).await;
    scenario.node.wait_in_step(&scenario.network).await;
    let newer = scenario.node.status().await.0.applied_block;

    scenario.cluster.kill_alpha();
    for folder in ["p", "w"] {
        std::fs::remove_dir_all(directory.join(folder)).unwrap();
        copy_folder(&copy.join(folder), &directory.join(folder));
    }
    scenario.cluster.start_alpha();
    let client = scenario.cluster.client();
    ready(&client).await;
    scenario.grow(1).await;
    scenario.node.wait_in_step(&scenario.network).await;
    assert!(scenario.node.status().await.0.applied_block > newer);
    scenario.end().await;
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    // Dgraph makes large files with holes in them.
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .arg(from.join("."))
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}

async fn edited(program: PathBuf, directory: PathBuf) {
    let scenario = Scenario::start(cluster(&program, &directory).await).await;
    let client = scenario.cluster.client();
    let find = "{ q(func: has(state.path), first: 3) { uid } b(func: has(blockNum), first: 3) { uid } }";
    let answer = client.query(&Query::new(find), Reading::Strict).await.unwrap();
    let found: Value = answer.read().unwrap();
    let uid = |of: &str, at: usize| found[of][at]["uid"].as_str().unwrap().parse::<Uid>().unwrap();
    let mut edit = Mutation::new();
    edit.set(uid("q", 0), "state.value", "\"edited\"");
    edit.clear(uid("q", 1), "state.path");
    edit.clear(uid("q", 1), "state.value");
    edit.set(uid("q", 2), "state.path", "somewhere/else");
    edit.set(Uid(uid("q", 0).0 + 1), "state.path", "made/up");
    edit.set(Uid(uid("q", 0).0 + 1), "state.value", "1");
    edit.set(uid("b", 0), "operations", "[]");
    edit.set(uid("b", 1), "op.path", "made/up");
    edit.clear(uid("b", 2), "blockNum");
    client.write(None, vec![edit]).await.unwrap();

    // Nothing announces that a comparison has come past all of it.
    let edited = Query::new(format!(
        "{{ a(func: uid({})) @filter(has(blockNum)) {{ uid }} b(func: eq(op.path, \"made/up\")) {{ uid }}
            c(func: eq(state.path, [\"made/up\", \"somewhere/else\"])) {{ uid }}
            d(func: uid({}, {})) @filter(has(state.path)) {{ uid v: state.value }} e(func: uid({})) {{ o: operations }} }}",
        uid("b", 2),
        uid("q", 0),
        uid("q", 1),
        uid("b", 0),
    ));
    let began = Instant::now();
    loop {
        scenario.grow(1).await;
        let answer = client.query(&edited, Reading::Strict).await.unwrap();
        let left: Value = answer.read().unwrap();
        let count = |of: &str| left[of].as_array().map_or(0, Vec::len);
        let is_right = count("a") == 1
            && count("b") == 0
            && count("c") == 0
            && count("d") == 2
            && left["d"][0]["v"] != "\"edited\""
            && left["e"][0]["o"] != "[]";
        if is_right {
            break;
        }
        assert!(began.elapsed() < Duration::from_mins(2), "{left}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    scenario.end().await;
}

/// A honeycomb that a node knows by a token.
fn source(node: &Node, token: &str) -> ReceiverSettings {
    ReceiverSettings {
        bearer_token: Some(token.to_owned()),
        ..ReceiverSettings::new(node.node().ingest_url())
    }
}

async fn forks(program: PathBuf, directory: PathBuf) {
    let cluster = cluster(&program, &directory).await;
    let network = Network::start();
    let mut nodes = Vec::new();
    for name in ["one", "two"] {
        let flags = [
            "--dgraph-mode",
            "shared",
            "--honeycomb-sources",
            "first=the-first-honeycomb,second=the-second-honeycomb",
        ];
        let node = Node::start(&network, name, &cluster.endpoint(), &flags).await;
        network
            .honeycomb
            .add_receiver(name, source(&node, "the-first-honeycomb"));
        nodes.push(node);
    }
    let (one, two) = (&nodes[0], &nodes[1]);
    network.produce(531);
    for node in &nodes {
        network.wait_complete(node.node()).await;
        node.wait_in_step(&network).await;
    }

    // The honeycomb goes one way, with the first node; another honeycomb goes its own, with the second.
    network.honeycomb.set_sending("two", Sending::Stopped);
    network.produce(12);
    network.wait_complete(one.node()).await;
    one.wait_in_step(&network).await;
    let ancestor = network.head().saturating_sub(12);
    let fork = network.honeycomb.read(|chain| chain.fork(ancestor, 99)).unwrap();
    let other = HoneycombNode::start(fork);
    other.add_receiver("two", source(two, "the-second-honeycomb"));
    other.produce(21).unwrap();
    let forked = ancestor.saturating_add(20);
    two.node().wait_complete(network.first_block(), forked).await;
    two.wait_for("a mismatch", |dgraph, _| dgraph.mismatch.is_some())
        .await;
    let (dgraph, status) = two.status().await;
    assert_eq!(status.state_height, Some(forked));
    let mismatch = dgraph.mismatch.unwrap();
    assert_eq!(Some(mismatch.block), one.status().await.0.applied_block);
    assert!(mismatch.dgraph_hash.is_some() && mismatch.log_hash != mismatch.dgraph_hash);
    assert_eq!(two.metric("honeygraph_dgraph_mismatches_total").await, 1);

    // It writes nothing, and stands in nobody's way.
    network.produce(15);
    network.wait_complete(one.node()).await;
    one.wait_in_step(&network).await;
    let (dgraph, _) = two.status().await;
    assert!(dgraph.mismatch.is_some());
    assert_eq!(two.metric("honeygraph_dgraph_mismatches_total").await, 1);

    // The longer way wins, and the second node writes again.
    other.remove_receiver("two");
    network.honeycomb.set_sending("two", Sending::On);
    network.produce(10);
    for node in &nodes {
        network.wait_complete(node.node()).await;
        node.wait_in_step(&network).await;
    }
    let client = reader(&cluster);
    for node in nodes {
        let compared = node.expect_equal(&network, &client).await;
        assert_eq!(compared.orphans, 0, "the losing fork was never in Dgraph");
    }
}

/// Size of the disk, and what is left on it while it is full.
const DISK_MIB: u64 = 400;

/// Why no small disk can be made here.
fn no_mount() -> Option<&'static str> {
    let directory = tempfile::tempdir().unwrap();
    Disk::mount(directory.path(), 1)
        .is_none()
        .then_some("it mounts a small tmpfs, which only root may")
}

/// A small disk in a folder.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, mebibytes: u64) -> Option<Self> {
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mebibytes}m"),
                "honeygraph-test",
            ])
            .arg(at)
            .stderr(std::process::Stdio::null())
            .status();
        mounted.ok()?.success().then(|| Self(at.to_owned()))
    }

    /// Fills what is free.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        let piece = vec![1; 4 << 10];
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn disk_full(program: PathBuf, directory: PathBuf) {
    let home = directory.join("disk");
    std::fs::create_dir(&home).unwrap();
    let disk = Disk::mount(&home, DISK_MIB).unwrap();
    let mut scenario = Scenario::start(cluster(&program, &home).await).await;
    disk.fill();
    // Dgraph goes on for as long as it needs no new room.
    let began = Instant::now();
    loop {
        scenario.grow(100).await;
        let (dgraph, _) = scenario.node.status().await;
        if dgraph.last_error.is_some() && dgraph.lag_blocks > Some(0) {
            break;
        }
        assert!(began.elapsed() < Duration::from_mins(3), "{dgraph:?}");
    }
    scenario.grow(100).await;
    disk.free();
    // Where it ended, somebody starts it again.
    scenario.cluster.kill_alpha();
    scenario.cluster.start_alpha();
    scenario.node.wait_in_step(&scenario.network).await;
    scenario.end().await;
    drop(disk);
}

/// Bytes of the value that a block puts.
const LARGE: usize = 50_000_000;

async fn large_block(program: PathBuf, directory: PathBuf) {
    let cluster = cluster(&program, &directory).await;
    let client = cluster.client();
    let network = "dlux".parse().unwrap();
    let store = ProjectionStore::open(client, &network, &"a".parse().unwrap()).await;
    let mut log = Log::new();
    log.grow(30);
    let settings = ProjectionSettings {
        step_blocks: 500,
        writers: Writers::One,
    };
    let mut projection = Projection::new(Arc::new(store.unwrap()), log.replica.store().clone(), settings);
    while projection.advance().await.unwrap() != Progress::Idle {}

    // Several come at once, between small ones.
    let text = "0123456789 abcdefghijklmnopqrstuvwxyz {}[],: ".repeat(LARGE / 45);
    let position = log.replica.position().unwrap().clone();
    let (mut number, mut previous_hash) = (position.state_height, position.link());
    for at in 0..6 {
        number = number.next();
        let data = if at % 3 == 1 { text.as_str() } else { "small" };
        previous_hash = log.append(
            number,
            previous_hash,
            vec![
                Operation::Put {
                    path: honeygraph_chain::Path::from_slashed(&format!("large/alice/{at}")),
                    data: JsonValue::String(data.to_owned()),
                },
                Operation::WriteMarker,
            ],
        );
    }
    let began = Instant::now();
    let mut steps = 0;
    while projection.advance().await.unwrap() != Progress::Idle {
        steps += 1;
        assert!(began.elapsed() < Duration::from_mins(4));
    }
    assert!(steps > 1, "both large blocks are never one transaction");
    let compared = compare(&reader(&cluster), &log.replica.store().view())
        .await
        .unwrap();
    assert_eq!(compared.blocks, 36);
}

async fn large_values(program: PathBuf, directory: PathBuf) {
    let cluster = cluster(&program, &directory).await;
    let client = cluster.client();
    let network = "dlux".parse().unwrap();
    let open = async || {
        let store = ProjectionStore::open(client.clone(), &network, &"a".parse().unwrap()).await;
        Arc::new(store.unwrap())
    };
    let mut log = Log::new();
    log.grow(30);
    let text = "0123456789 abcdefghijklmnopqrstuvwxyz ".repeat(40_000_000 / 38);
    let position = log.replica.position().unwrap().clone();
    let (mut number, mut previous_hash) = (position.state_height, position.link());
    for at in 0..2 {
        number = number.next();
        let put = Operation::Put {
            path: honeygraph_chain::Path::from_slashed(&format!("large/{at}")),
            data: JsonValue::String(text.clone()),
        };
        previous_hash = log.append(number, previous_hash, vec![put, Operation::WriteMarker]);
    }
    let projection = |store| {
        let settings = ProjectionSettings {
            step_blocks: 500,
            writers: Writers::One,
        };
        Projection::new(store, log.replica.store().clone(), settings)
    };
    let mut first = projection(open().await);
    while first.advance().await.unwrap() != Progress::Idle {}
    let cursor = first.cursor().unwrap().clone();

    // Both stand there when the state is written anew.
    let store = open().await;
    let forgotten = Cursor {
        state: StateCursor::Nothing,
        ..cursor.clone()
    };
    store.write(&cursor, &forgotten, Mutation::new()).await.unwrap();
    let mut again = projection(store);
    while again.advance().await.unwrap() != Progress::Idle {}
    let view = log.replica.store().view();
    assert_eq!(compare(&reader(&cluster), &view).await.unwrap().blocks, 32);

    // Comparing them takes one at a time.
    let mut verification = Verification::new(Mend::No);
    while again.verify_step(&mut verification).await.unwrap() == Verified::More {}
    assert_eq!(verification.found(), 0, "{:?}", verification.differences());
}
