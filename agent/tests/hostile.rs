//! Bad input over real sockets, to whole running nodes: what is refused with a clear error or counted, leaves
//! nothing half applied and no committed block lost. After each scenario the node is stopped and its whole store
//! read.
//!
//! | bad input | to the API | from a source | from a peer |
//! |---|---|---|---|
//! | truncated, oversized, of a wrong type, not UTF-8, deeply nested | `bad_requests_..` | `a_source_..`, `ingest/tests.rs` | `answers_..`, `wrong_blocks_..`, `false_descriptions_..` |
//! | compressed bomb | `bad_requests_..`, `memory_..` | no compression is spoken | `memory_..` |
//! | frames out of order, no end frame, wrong checksum or count, cut off | | | `answers_..`; each byte: `wire/batch/tests.rs` |
//! | another number, broken link, wrong hash, hole in `index`, leaf over a subtree | | `ingest/assembler/tests.rs` | `wrong_blocks_..` |
//! | a chain that is right in itself and another one | | | `wrong_blocks_..`, `a_lie_..` |
//! | head of 10^12, of -1, of null | `bad_requests_..` | `a_source_..`, `ingest/tests.rs` | `false_descriptions_..` |
//! | a first block that does not exist, another network | | `ingest/tests.rs` | `false_descriptions_..`, `blocks_that_..` |
//! | a head that the clock allows and nobody has | | | `blocks_that_..` |
//! | `from` above `to`, block 0 | `bad_requests_..` | `a_source_..` | |
//! | gaps that overlap, or 10^6 of them | `bad_requests_..`, `memory_..` | | |
//! | 10,000 peers | `ten_thousand_..` | | `ten_thousand_..`, `false_descriptions_..` |
//! | 429, 5xx, a redirect to loopback | | | `answers_..`; addresses: `peers/client/tests/guarding.rs` |
//! | slow, silent, broken off | `api/tests/sockets.rs` | `ingest/tests.rs` | `answers_..` |
//! | blocks without hashes of their own | | | `operations_of_older_peers_..` |

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod hostile {
    pub(crate) mod fault;
    pub(crate) mod gate;
    pub(crate) mod memory;
    pub(crate) mod observe;
    pub(crate) mod peer;
    pub(crate) mod world;
}

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt, stream};
use honeygraph_agent::wire::shapes::MAX_LISTED_PEERS;
use honeygraph_chain::BlockNumber;
use hostile::fault::{CapabilitiesFault, Fault, OlderFault};
use hostile::gate::Gate;
use hostile::observe::{check_store, look, wait_to_see};
use hostile::peer::{ScriptedPeer, bomb};
use hostile::world::World;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Body, Client, Method};
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio_tungstenite::tungstenite::Message;

use common::{TestNode, feed};

/// Taken by every test, and by the one that measures memory alone.
static ALONE: RwLock<()> = RwLock::const_new(());

/// A fault, and what shows that the node noticed it.
struct Case {
    name: &'static str,
    fault: Fault,
    /// How requests for blocks end, one of these; none where it is not asked for any.
    outcomes: &'static [&'static str],
    /// Whether it costs the peer score.
    costs: bool,
    /// First block that the peer alone cannot bring it to take.
    bad_from: Option<BlockNumber>,
}

impl Case {
    fn new(name: &'static str, fault: Fault, outcomes: &'static [&'static str]) -> Self {
        Self {
            name,
            fault,
            outcomes,
            costs: true,
            bad_from: None,
        }
    }

    fn free(self) -> Self {
        Self { costs: false, ..self }
    }

    fn bad_from(self, block: BlockNumber) -> Self {
        Self {
            bad_from: Some(block),
            ..self
        }
    }
}

/// Leaves a new node alone with the hostile peer, sees that it notices and takes nothing wrong, then lets the
/// honest peer in and sees that the node gets everything.
async fn withstand(world: &World, case: Case) {
    let Case {
        name,
        fault,
        outcomes,
        costs,
        bad_from,
    } = case;
    let voter = world.voter().await;
    let proves_lie = matches!(
        fault,
        Fault::OtherChain(_) | Fault::Older(OlderFault::OtherOperations(_))
    );
    let chain = match fault {
        Fault::OtherChain(at) => world.other_chain(at.distance_from(world.start_block())),
        _ => world.chain.clone(),
    };
    let hostile = ScriptedPeer::start(chain, fault, Some(&voter)).await;
    let gate = world.gate().await;
    let peers = [hostile.url(), gate.url(), voter.url()];
    let node = world.node(name, &peers, &[voter.url()], &["--init-chain"]).await;

    let seen = wait_to_see(&node, name, |seen| {
        let noticed = outcomes.is_empty()
            || outcomes
                .iter()
                .any(|outcome| seen.requests(&hostile.url(), outcome) > 0);
        noticed
            && (!costs || seen.score(&hostile.url()) < 0.0)
            && hostile.asked("capabilities") + hostile.asked("unknown") > 1
    })
    .await;
    if outcomes.is_empty() && !costs && bad_from == Some(world.start_block()) {
        assert_eq!(hostile.asked("blocks"), 0, "{name}");
    }
    if let Some(bad_from) = bad_from {
        let height = seen.admin["position"]["stateHeight"].as_u64().unwrap();
        assert!(height < bad_from.get(), "{name}: {height}");
        let mode = seen.admin["sync"]["mode"].as_str().unwrap();
        assert!(["fill", "starved"].contains(&mode), "{name}: {mode}");
    }

    if proves_lie {
        let mismatches = seen.admin["counters"]["stateHashMismatches"].as_u64();
        assert!(mismatches > Some(0), "{name}: not counted");
        assert_eq!(seen.peer(&hostile.url())["standing"], "banned", "{name}");
    }

    gate.open();
    let status = node.wait_complete(world.start_block(), world.head()).await;
    let position = status.position.unwrap();
    assert_eq!(
        position.state_block_hash,
        world.chain.last().map(|last| last.block.hash()),
        "{name}"
    );
    assert_eq!(position.halted, None, "{name}");
    let last_anchor = world
        .chain
        .iter()
        .rev()
        .find_map(|block| block.checkpoint.as_ref())
        .unwrap()
        .anchor;
    node.wait_for("the last checkpoint to be final", |status| {
        status.position.as_ref().unwrap().irreversible == Some(last_anchor)
    })
    .await;
    let seen = wait_to_see(&node, name, |seen| seen.peer(&gate.url())["isAlive"] == true).await;
    assert!(
        seen.score(&gate.url()) > -9.0,
        "{name}: the honest peer is blamed: {:#}",
        seen.admin["peers"]
    );
    assert_eq!(seen.peer(&gate.url())["standing"], "good", "{name}");
    if costs {
        assert!(seen.score(&hostile.url()) < seen.score(&gate.url()), "{name}");
    }
    node.stop().await;
    assert_eq!(
        check_store(&world.directory(name), &world.chain).await,
        Some(world.head()),
        "{name}"
    );
}

/// Runs cases at the same time.
async fn withstand_all(world: World, cases: Vec<Case>) {
    let world = Arc::new(world);
    let mut running = tokio::task::JoinSet::new();
    for case in cases {
        let world = Arc::clone(&world);
        running.spawn(async move { withstand(&world, case).await });
    }
    let mut failed = 0;
    while let Some(ended) = running.join_next().await {
        failed += u32::from(ended.is_err());
    }
    assert_eq!(failed, 0, "scenarios failed, see above");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_the_format_are_refused_and_the_honest_peer_fills_the_node() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let elsewhere = ScriptedPeer::start(world.chain.clone(), Fault::Nothing, None).await;
    let cases = vec![
        Case::new(
            "redirected",
            Fault::Redirect(format!("{}/api/sync/blocks", elsewhere.url())),
            &["unexpected_status"],
        )
        .bad_from(world.start_block()),
        Case::new(
            "start frame late",
            Fault::StartFrameLate,
            &["malformed", "too_large"],
        ),
        Case::new("blocks swapped", Fault::BlocksSwapped, &["wrong_number"]),
        Case::new("missing end", Fault::MissingEnd, &["short_answer"]),
        Case::new("wrong checksum", Fault::WrongChecksum, &["malformed"]).bad_from(world.start_block()),
        Case::new("wrong count", Fault::WrongCount, &["malformed"]).bad_from(world.start_block()),
        Case::new("truncated", Fault::Truncated, &["short_answer"]),
        Case::new("closes early", Fault::ClosesEarly, &["unreachable"]),
        Case::new("huge frame", Fault::HugeFrame, &["too_large"]).bad_from(world.start_block()),
        Case::new("html", Fault::Html, &["malformed", "too_large"]).bad_from(world.start_block()),
        Case::new("rate limited", Fault::RateLimited, &["rate_limited"])
            .free()
            .bad_from(world.start_block()),
        Case::new("server error", Fault::ServerError, &["server_error"]).bad_from(world.start_block()),
        Case::new("drip", Fault::Drip, &["timed_out"]),
        Case::new("never answers", Fault::NeverAnswers, &["timed_out"]).bad_from(world.start_block()),
    ];
    withstand_all(world, cases).await;
    assert!(elsewhere.asked_nothing(), "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_blocks_are_refused_and_the_honest_peer_fills_the_node() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let at = world.at(150);
    let cases = vec![
        Case::new("other number", Fault::OtherNumber(at), &["wrong_number"]).bad_from(at),
        Case::new("broken link", Fault::BrokenLink(at), &["broken_link"]).bad_from(at),
        Case::new("other operations", Fault::OtherOperations(at), &["broken_link"]).bad_from(at),
        Case::new("hole in index", Fault::HoleInIndex(at), &["malformed"]).bad_from(at),
        Case::new("not utf-8", Fault::NotUtf8(at), &["malformed"]).bad_from(at),
        Case::new("deeply nested", Fault::DeeplyNested(at), &["malformed"]).bad_from(at),
        Case::new("leaf over subtree", Fault::LeafOverSubtree(at), &[]).bad_from(at),
        Case::new("other chain", Fault::OtherChain(at), &[]).bad_from(at),
        // The last block before a checkpoint, and the checkpoint's own block.
        Case::new(
            "other chain at a checkpoint",
            Fault::OtherChain(world.at(99)),
            &[],
        )
        .bad_from(world.at(99)),
        Case::new(
            "other operations at a checkpoint",
            Fault::OtherOperations(world.at(199)),
            &[],
        )
        .bad_from(world.at(199)),
    ];
    withstand_all(world, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn false_descriptions_are_seen_through_and_the_honest_peer_fills_the_node() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let cases = vec![
        Case::new(
            "head 10^12",
            // Beyond what the clock allows: not believed, and nothing is asked for.
            Fault::Head(json!(1_000_000_000_000_u64)),
            &[],
        )
        .free(),
        Case::new("head -1", Fault::Head(json!(-1)), &[])
            .free()
            .bad_from(world.start_block()),
        Case::new("head null", Fault::Head(json!(null)), &[])
            .free()
            .bad_from(world.start_block()),
        Case::new("base 0", Fault::Base(0), &[]).free(),
        Case::new("other network", Fault::OtherNetwork, &[])
            .free()
            .bad_from(world.start_block()),
        Case::new("many peers", Fault::ManyPeers, &[]).free(),
    ];
    let mut cases = cases;
    for (name, fault) in [
        ("nested description", CapabilitiesFault::DeeplyNested),
        ("description not utf-8", CapabilitiesFault::NotUtf8),
        ("description of a wrong type", CapabilitiesFault::WrongType),
    ] {
        cases.push(
            Case::new(name, Fault::Capabilities(fault), &[])
                .free()
                .bad_from(world.start_block()),
        );
    }
    withstand_all(world, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_no_peer_has_are_not_wanted_for_ever() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let head = world.head();
    for (name, fault) in [
        ("base that nobody has", Fault::Base(1)),
        ("head that nobody has", Fault::Head(json!(head.get() + 5_000))),
    ] {
        let hostile = ScriptedPeer::start(world.chain.clone(), fault, None).await;
        let peers = [hostile.url(), world.honest.url()];
        let node = world
            .node(name, &peers, &[hostile.url()], &["--init-chain"])
            .await;
        node.wait_complete(world.start_block(), head).await;
        let seen = wait_to_see(&node, name, |seen| {
            let sync = &seen.admin["sync"];
            sync["mode"] == "follow" && sync["gaps"]["count"] == 0 && sync["networkHead"] == head.get()
        })
        .await;
        assert_eq!(seen.peer(&hostile.url())["standing"], "good", "{name}");
        node.stop().await;
        let highest = check_store(&world.directory(name), &world.chain).await;
        assert_eq!(highest, Some(head), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_that_was_taken_before_the_voters_spoke_is_taken_back() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let at = world.at(150);
    let voter = world.voter().await;
    let hostile = ScriptedPeer::start(world.other_chain(150), Fault::OtherChain(at), None).await;
    let (voter_gate, honest_gate) = (Gate::start(voter.address).await, world.gate().await);
    let peers = [hostile.url(), voter_gate.url(), honest_gate.url()];
    let node = world
        .node("late voters", &peers, &[voter_gate.url()], &["--init-chain"])
        .await;
    // Nobody contradicts it: it is taken, unconfirmed.
    let status = node.wait_complete(world.start_block(), world.head()).await;
    assert_eq!(status.position.unwrap().irreversible, None);

    voter_gate.open();
    node.wait_for("the lie to be taken back", |status| {
        status.position.as_ref().unwrap().state_height < at
    })
    .await;
    honest_gate.open();
    let status = node.wait_complete(world.start_block(), world.head()).await;
    let last = world.chain.last().unwrap().block.hash();
    assert_eq!(status.position.unwrap().state_block_hash, Some(last));
    let seen = look(&node).await;
    assert!(seen.score(&honest_gate.url()) > -9.0, "{:#}", seen.admin["peers"]);
    node.stop().await;
    let highest = check_store(&world.directory("late voters"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_of_older_peers_are_taken_where_a_checkpoint_proves_them() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let (voter, older) = (world.voter().await, Fault::Older(OlderFault::Nothing));
    let older = ScriptedPeer::start(world.chain.clone(), older, None).await;

    let peers = [older.url(), voter.url()];
    let proven = world.node("proven", &peers, &peers[1..], &["--init-chain"]).await;
    let unproven = world.node("unproven", &peers[..1], &[], &["--init-chain"]).await;
    let last_checkpoint = last_anchor(&world).block_num;
    let status = proven.wait_complete(world.start_block(), last_checkpoint).await;
    // What no checkpoint covers yet is not taken.
    assert_eq!(status.position.unwrap().state_height, last_checkpoint);
    wait_to_see(&unproven, "the older peer to be asked for its head", |seen| {
        seen.peer(&older.url())["isAlive"] == true && older.asked("head") > 20
    })
    .await;
    let seen = look(&unproven).await;
    assert_eq!(
        seen.admin["position"]["stateHeight"],
        json!(world.start_block().get() - 1)
    );
    assert!(
        seen.score(&older.url()) > -9.0,
        "an older peer is no liar: {:#}",
        seen.admin["peers"]
    );
    proven.stop().await;
    unproven.stop().await;
    let highest = check_store(&world.directory("proven"), &world.chain).await;
    assert_eq!(highest, Some(last_checkpoint));
    assert_eq!(
        check_store(&world.directory("unproven"), &world.chain).await,
        None
    );

    // Behind a checkpoint that a node has started from, only blocks with hashes will do.
    let peers = [older.url(), world.honest.url()];
    let joined = world.node("joined", &peers, &[world.honest.url()], &[]).await;
    joined.wait_complete(world.start_block(), world.head()).await;
    joined.stop().await;
    let highest = check_store(&world.directory("joined"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));

    let at = world.at(150);
    let lies = OlderFault::OtherOperations(at);
    let cases = vec![
        Case::new("older liar", Fault::Older(lies), &[]).bad_from(at),
        Case::new(
            "older with another number",
            Fault::Older(OlderFault::OtherNumber(at)),
            &["wrong_number"],
        )
        .free()
        .bad_from(at),
    ];
    withstand_all(world, cases).await;
}

/// The newest checkpoint of the honest chain.
fn last_anchor(world: &World) -> honeygraph_chain::checkpoint::Anchor {
    let checkpoints = world
        .chain
        .iter()
        .rev()
        .filter_map(|block| block.checkpoint.as_ref());
    checkpoints.map(|checkpoint| checkpoint.anchor).next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn every_call_has_the_shape_of_the_javascript_honeygraph() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let (start, head) = (world.start_block(), world.head());
    let shapes: [(String, &[&str]); 8] = [
        (
            "/api/sync/status".to_owned(),
            &["isSyncing", "lastSyncBlock", "peers"],
        ),
        (
            format!("/api/sync/gaps?from={start}&to={head}"),
            &["fromBlock", "toBlock", "gaps", "totalMissing"],
        ),
        ("/api/query/head".to_owned(), &["head", "fork"]),
        (
            format!("/api/query/block/{head}/full"),
            &[
                "blockNum",
                "blockHash",
                "previousHash",
                "timestamp",
                "forkId",
                "isFinalized",
                "operations",
                "peerId",
            ],
        ),
        (
            "/api/query/block/1/full".to_owned(),
            &["error", "blockNum", "fork"],
        ),
        (format!("/api/sync/consensus/{head}"), &["blockNum", "consensus"]),
        ("/api/sync/consensus/1".to_owned(), &["error", "blockNum"]),
        ("/health".to_owned(), &[]),
    ];
    for (path, names) in shapes {
        let answer = reqwest::get(format!("{}{path}", world.honest.url()))
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        for name in names {
            assert!(answer.get(name).is_some(), "{path}: {name} in {answer}");
        }
    }
    for path in ["/api/sync/peers", "/api/honeygraph-peers"] {
        let answer = reqwest::get(format!("{}{path}", world.honest.url()))
            .await
            .unwrap();
        assert!(answer.json::<Value>().await.unwrap().is_array(), "{path}");
    }
    let numbers = world
        .chain
        .iter()
        .map(|block| (block.block.number(), block.block.block()));
    let (number, block) = numbers
        .rev()
        .find(|(_, block)| block.operations.as_slice().len() > 1)
        .unwrap();
    let url = format!("{}/api/query/block/{number}/full", world.honest.url());
    let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    for (index, operation) in block.operations.as_slice().iter().enumerate() {
        let shape = &answer["operations"][index];
        assert_eq!(shape["index"], json!(index));
        assert_eq!(shape["reverted"], json!(false));
        let names = ["type", "timestamp"].into_iter();
        for name in names
            .chain(operation.path().map(|_| "path"))
            .chain(operation.data().map(|_| "data"))
        {
            assert!(shape.get(name).is_some(), "{name} in {shape}");
        }
    }
    let posts = [
        (
            "/api/sync/peers",
            json!({"peerId": "one", "url": "http://192.0.2.1:3030"}),
            "peerId",
        ),
        ("/api/sync/discover", json!({"nodes": []}), "totalPeers"),
        (
            "/api/sync/sync-gaps",
            json!({"gaps": [], "targetFork": "main"}),
            "results",
        ),
    ];
    for (path, body, name) in posts {
        let answer = Client::new()
            .post(format!("{}{path}", world.honest.url()))
            .json(&body)
            .send()
            .await;
        let answer: Value = answer.unwrap().json().await.unwrap();
        assert_eq!(answer["success"], json!(true), "{path}: {answer}");
        assert!(answer.get(name).is_some(), "{path}: {answer}");
    }
    let url = format!("{}/api/sync/sync-from/{start}", world.honest.url());
    let answer: Value = Client::new()
        .post(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer, json!({"success": true, "message": "No gaps detected"}));
    world.honest.stop().await;
}

/// Sends a body as JSON, in whatever coding.
async fn post(node: &TestNode, path: &str, coding: Option<&str>, body: impl Into<Body>) -> (u16, String) {
    let mut request = Client::new()
        .post(format!("{}{path}", node.url()))
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    if let Some(coding) = coding {
        request = request.header(CONTENT_ENCODING, coding);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// An error is a short object that says what is wrong.
fn assert_refused(what: &str, expected: &[u16], (status, body): &(u16, String)) {
    assert!(expected.contains(status), "{what}: {status} {body}");
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{what}: {error}: {body}"));
    let error = answer["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{what}: {body}"));
    assert!((3..1_000).contains(&error.len()), "{what}: {body}");
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn bad_requests_get_a_clear_error_and_change_nothing() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let node = &world.honest;
    let before = node.running.status().borrow().have.clone();

    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: Vec<(&str, &[u16], Vec<u8>)> = vec![
        ("empty", &[400], vec![]),
        ("truncated", &[400], br#"{"gaps":[{"start":1,"#.to_vec()),
        ("oversized", &[413], vec![b' '; (1 << 20) + 1]),
        ("nested", &[400], nested.clone().into_bytes()),
        (
            "nested inside",
            &[400],
            format!(r#"{{"gaps":{nested},"nodes":{nested},"peerId":{nested}}}"#).into_bytes(),
        ),
        (
            "wrong type",
            &[400],
            br#"{"gaps":7,"nodes":"all","peerId":[],"url":{}}"#.to_vec(),
        ),
        (
            "wrong type inside",
            &[400],
            br#"{"gaps":["all"],"nodes":[7],"peerId":7,"url":7}"#.to_vec(),
        ),
        (
            "not utf-8",
            &[400],
            b"{\"gaps\":\"\xFF\",\"nodes\":\"\xFE\",\"peerId\":\"\xFF\"}".to_vec(),
        ),
        ("null", &[400], b"null".to_vec()),
    ];
    for path in ["/api/sync/sync-gaps", "/api/sync/discover", "/api/sync/peers"] {
        for (what, expected, body) in &bodies {
            let answer = post(node, path, None, body.clone()).await;
            assert_refused(&format!("{path}: {what}"), expected, &answer);
        }
        for coding in ["zstd", "gzip", "br", "deflate"] {
            let answer = post(
                node,
                path,
                Some(coding),
                bomb(br#"{"gaps":[],"nodes":[],"x":""#, b' '),
            )
            .await;
            assert_refused(&format!("{path}: {coding} bomb"), &[400, 413, 415], &answer);
        }
    }
    let gaps = [
        ("end below start", json!([{"start": 9, "end": 1}])),
        ("negative", json!([{"start": -1, "end": 1}])),
        ("beyond numbers", json!([{"start": 1, "end": 1e300}])),
        (
            "too many",
            (0..20_000).map(|at| json!({"start": at, "end": at})).collect(),
        ),
    ];
    for (what, gaps) in gaps {
        let body = json!({"gaps": gaps}).to_string();
        let answer = post(node, "/api/sync/sync-gaps", None, body).await;
        assert_refused(what, &[400], &answer);
    }
    // Gaps that overlap are one gap, and there is none here; nor is one at block 0 or 10^12.
    let overlapping: Vec<_> = (0..10_000)
        .map(|at| json!({"start": world.start_block().get() + at % 400, "end": world.head()}))
        .collect();
    for gaps in [
        json!(overlapping),
        json!([{"start": 0, "end": 0}]),
        json!([{"start": 1_000_000_000_000_u64, "end": 1_000_000_000_001_u64}]),
    ] {
        let (status, answer) = post(
            node,
            "/api/sync/sync-gaps",
            None,
            json!({"gaps": gaps}).to_string(),
        )
        .await;
        let expected = json!({"success": true, "message": "No gaps detected"});
        assert_eq!((status, serde_json::from_str(&answer).unwrap()), (200, expected));
    }

    let (start, head) = (world.start_block(), world.head());
    let far = 1_000_000_000_000_u64;
    let calls: Vec<(Method, String, &[u16])> = vec![
        (
            Method::GET,
            format!("/api/sync/gaps?from={head}&to={start}"),
            &[400],
        ),
        (Method::GET, "/api/sync/gaps?from=-1&to=5".to_owned(), &[400]),
        (
            Method::GET,
            format!("/api/sync/blocks?from={head}&to={start}"),
            &[400],
        ),
        (Method::GET, "/api/sync/blocks?from=0&to=0".to_owned(), &[404]),
        (
            Method::GET,
            format!("/api/sync/blocks?from={start}&to={far}"),
            &[400],
        ),
        (Method::GET, "/api/sync/blocks?from=-1&to=5".to_owned(), &[400]),
        (Method::GET, "/api/sync/blocks".to_owned(), &[400]),
        (
            Method::GET,
            format!("/api/sync/anchors?from={head}&to={start}"),
            &[400],
        ),
        (
            Method::GET,
            format!("/api/checkpoints?from={head}&to={start}"),
            &[400],
        ),
        (Method::GET, "/api/checkpoints/Qm".to_owned(), &[400, 404]),
        (Method::GET, "/api/query/block/0/full".to_owned(), &[404]),
        (Method::GET, "/api/query/block/-1/full".to_owned(), &[400]),
        (Method::GET, format!("/api/query/block/{far}/full"), &[404]),
        (
            Method::GET,
            "/api/query/block/9999999999999999999999/full".to_owned(),
            &[400],
        ),
        (Method::GET, "/api/sync/hash/0".to_owned(), &[404]),
        (Method::GET, format!("/api/sync/hash/{far}"), &[404]),
        (Method::GET, "/api/sync/consensus/0".to_owned(), &[404]),
        (Method::GET, "/api/sync/consensus/-1".to_owned(), &[400]),
        (Method::POST, "/api/sync/sync-from/-1".to_owned(), &[400]),
        (Method::GET, "/api/query/state/%FF".to_owned(), &[400]),
    ];
    for (method, path, expected) in calls {
        let answer = Client::new()
            .request(method, format!("{}{path}", node.url()))
            .send()
            .await
            .unwrap();
        let answer = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_refused(&path, expected, &answer);
    }
    for block in [0, far] {
        let answer = post(node, &format!("/api/sync/sync-from/{block}"), None, "").await;
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    assert_eq!(node.running.status().borrow().have, before);
    let directory = world.directory("honest");
    world.honest.stop().await;
    assert_eq!(check_store(&directory, &world.chain).await, Some(head));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_peers_are_cut_and_those_at_home_never_dialled() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let at_home = ScriptedPeer::start(world.chain.clone(), Fault::Nothing, None).await;
    let giver = ScriptedPeer::start(world.chain.clone(), Fault::ManyPeers, None).await;
    let flags = ["--peers-max", "500", "--discovery-interval-ms", "1000"];
    let node = world.node("many", &[giver.url()], &[], &flags).await;
    let nodes: Vec<_> = (0..10_000)
        .map(|at| match at {
            0 => json!({"id": "at-home", "url": at_home.url()}),
            at => json!({"id": format!("peer-{at}"), "url": format!("http://[::ffff:127.0.0.1]:{at}")}),
        })
        .collect();
    let (status, answer) = post(
        &node,
        "/api/sync/discover",
        None,
        json!({"nodes": nodes}).to_string(),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["totalPeers"].as_u64().unwrap() <= 501, "{answer}");
    wait_to_see(&node, "the list to be asked for", |_| giver.asked("peers") > 1).await;
    node.wait_complete(world.start_block(), world.head()).await;
    let seen = look(&node).await;
    let listed = seen.admin["sync"]["peers"].as_array().unwrap().len();
    assert!(listed <= MAX_LISTED_PEERS.min(501), "{listed}");
    let mut alive = seen.admin["peers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|peer| peer["isAlive"] == true);
    assert_eq!(alive.next().unwrap()["url"], json!(giver.url()));
    assert!(alive.next().is_none());
    assert!(at_home.asked_nothing());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_talks_nonsense_harms_neither_the_node_nor_the_next_source() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let node = world.node("nonsense", &[], &[], &[]).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(node.ingest_url()).await.unwrap();
    let start = world.start_block();
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let texts = [
        json!({"type": "identify", "source": "honeycomb", "version": "1", "token": "DLUX"}).to_string(),
        json!({"type": "sync_status", "lastIndex": 5, "blockNum": 1_000_000_000_000_u64}).to_string(),
        json!({"type": "sync_status", "lastIndex": 5, "blockNum": -1}).to_string(),
        json!({"type": "put", "index": 0, "blockNum": 1_000_000_000_000_u64, "path": ["a"], "data": 1}).to_string(),
        json!({"type": "put", "index": 0, "blockNum": -1, "path": ["a"], "data": 1}).to_string(),
        json!({"type": "put", "index": 0, "blockNum": 0, "path": ["a"], "data": 1}).to_string(),
        format!(r#"{{"type":"put","index":0,"blockNum":{start},"path":["a"],"data":{nested}}}"#),
        r#"{"type":"put","index":0"#.to_owned(),
        json!({"type": "checkpoint", "blockNum": 1_000_000_000_000_u64, "hash": last_anchor(&world).state_hash})
            .to_string(),
    ];
    for text in texts {
        socket.send(Message::text(text)).await.unwrap();
    }
    socket.close(None).await.unwrap();
    let mut errors = 0;
    while let Some(Ok(message)) = socket.next().await {
        errors += usize::from(message.is_text() && message.to_text().unwrap().contains(r#""error""#));
    }
    assert!(errors >= 7, "{errors} errors");
    let network_head = node.running.status().borrow().network_head;
    assert!(
        network_head.is_none_or(|head| head <= world.head()),
        "{network_head:?}"
    );

    feed(&world.network.honeycomb, &node);
    node.wait_complete(start, world.head()).await;
    node.stop().await;
    let highest = check_store(&world.directory("nonsense"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_whatever_is_sent() {
    let _measured = ALONE.write().await;
    let world = World::start().await;
    let voter = world.voter().await;
    let mut hostile = Vec::new();
    for fault in [
        Fault::Bomb,
        Fault::HugeFrame,
        Fault::Capabilities(CapabilitiesFault::Bomb),
        Fault::Capabilities(CapabilitiesFault::DeeplyNested),
    ] {
        hostile.push(ScriptedPeer::start(world.chain.clone(), fault, Some(&voter)).await);
    }
    let gate = world.gate().await;
    let mut peers: Vec<_> = hostile.iter().map(ScriptedPeer::url).collect();
    peers.extend([voter.url(), gate.url()]);

    let before = hostile::memory::start_to_measure();
    let node = world
        .node("bombs", &peers, &[voter.url()], &["--init-chain"])
        .await;
    let bombs = &hostile[0];
    wait_to_see(&node, "bombs", |seen| {
        let refused = |outcome| seen.requests(&bombs.url(), outcome);
        refused("too_large") + refused("malformed") > 1 && hostile[2].asked("capabilities") > 1
    })
    .await;
    for path in ["/api/sync/sync-gaps", "/api/sync/discover"] {
        // A million gaps in a body that does not say how long it is.
        let start = stream::iter([String::from(r#"{"nodes":[],"gaps":["#)]);
        let gaps = stream::iter((0..1_000_000).map(|at| format!(r#"{{"start":{at},"end":{at},"size":1}},"#)));
        let body = Body::wrap_stream(start.chain(gaps).map(Ok::<_, std::io::Error>));
        let sent = Client::new()
            .post(format!("{}{path}", node.url()))
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await;
        // The node may end the connection before everything is sent.
        if let Ok(answer) = sent {
            assert_eq!(answer.status(), 413);
        }
        for coding in ["zstd", "gzip"] {
            let answer = post(&node, path, Some(coding), bomb(br#"{"nodes":[],"gaps":["#, b' ')).await;
            assert_refused(coding, &[400, 413, 415], &answer);
        }
    }
    gate.open();
    node.wait_complete(world.start_block(), world.head()).await;
    let grown = hostile::memory::peak().saturating_sub(before);
    assert!(grown < hostile::memory::MOST_GROWTH, "{} MiB more", grown >> 20);
    node.stop().await;
    let highest = check_store(&world.directory("bombs"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));
}
