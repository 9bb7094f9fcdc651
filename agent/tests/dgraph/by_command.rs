//! `honeygraph-agent dgraph` as a user runs it, and the questions of the docs pages, on a real Dgraph.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use honeygraph_agent::dgraph::client::{DgraphClient, Mutation, Query, Reading};
use honeygraph_agent::dgraph::projection::{
    Progress, Projection, ProjectionSettings, ProjectionStore, Writers,
};
use honeygraph_agent::ingest::{LastIndex, SourceCursor, SourceEvent, SourceEventKind};
use honeygraph_agent::metrics::Metrics;
use honeygraph_agent::replica::{FetchedBlock, Replica, ReplicaSettings, StartDocuments};
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::quorum::Voters;
use honeygraph_chain::{ContentId, JsonValue, Operation, Operations};
use libtest_mimic::Trial;
use serde_json::Value as Json;

use crate::World;
use crate::cluster::{Cluster, eventually, ready};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        world.own("by_command::a_stopped_nodes_dgraph_is_filled_and_mended", stopped),
        world.own("by_command::a_running_node_fills_and_mends_its_dgraph", running),
        world.own(
            "by_command::every_question_of_the_docs_is_answered_as_shown",
            docs,
        ),
    ]
}

/// The published vectors: 500 blocks, whose numbers, hashes and values the docs show.
const VECTORS: &str = include_str!("../../../chain/tests/data/honeycomb.json");

/// A log of the published vectors, in `home/data`.
struct Log {
    replica: Replica,
    blocks: Vec<FetchedBlock>,
}

impl Log {
    fn new(home: &Path) -> Self {
        let vectors: Json = serde_json::from_str(VECTORS).unwrap();
        let canonical = |value: &Json| {
            serde_json::from_value::<JsonValue>(value.clone())
                .unwrap()
                .to_canonical()
        };
        let blocks = vectors["blocks"].as_array().unwrap().iter().map(|block| {
            let hashed = serde_json::json!({
                "blockNum": block["blockNum"],
                "operations": block["operations"],
                "previousHash": block["previousHash"],
            });
            FetchedBlock {
                block: HashedBlock::from_canonical(canonical(&hashed)).unwrap(),
                timestamp_ms: 1_544_788_800_000,
            }
        });
        let genesis = home.join("genesis.json");
        let document = canonical(&vectors["genesis"]["document"]);
        std::fs::write(&genesis, &document).unwrap();
        let (_, writer, _) = Store::open(&home.join("data"), &StoreSettings::default()).unwrap();
        let settings = ReplicaSettings {
            network: "spkcc".to_owned(),
            schedule: CheckpointSchedule::default(),
            voters: Voters::default(),
            max_reorg_depth: 1_000,
            commit_blocks: 512,
            commit_interval: std::time::Duration::ZERO,
            orphan_blocks: 28_800,
            pending_blocks: 4_096,
            pending_bytes: ReplicaSettings::PENDING_BYTES,
            trusted_checkpoint: None,
            state_documents: std::num::NonZeroUsize::MAX,
            kept_changes: 10_000,
            metrics: Metrics::new(),
        };
        let mut replica = Replica::new(writer, settings).unwrap();
        let documents = StartDocuments {
            state: genesis,
            state_id: ContentId::of(&document),
            prev_root: honeygraph_chain::checkpoint::PreviousRoot::None,
            deltas: Vec::new(),
            anchor: None,
        };
        replica.start_from(&documents).unwrap();
        Self {
            replica,
            blocks: blocks.collect(),
        }
    }

    fn extend(&mut self, places: std::ops::Range<usize>) {
        let blocks = &self.blocks[places];
        self.replica.extend(&"peer".parse().unwrap(), blocks).unwrap();
        self.replica.settle().unwrap();
    }

    /// A source sends a block.
    fn send(&mut self, source: &str, block: &Block) {
        let event = SourceEventKind::Block {
            number: block.number,
            operations: block.operations.clone(),
            timestamp_ms: 1_544_788_800_000,
            cursor: SourceCursor {
                last_index: LastIndex(None),
                block: block.number,
            },
        };
        let source = source.parse().unwrap();
        let event = SourceEvent { source, event };
        self.replica.on_source(event, 1_700_000_000).unwrap();
    }
}

async fn cluster(program: &Path, directory: &Path) -> (Cluster, DgraphClient) {
    let cluster = Cluster::start(program, directory, &["--security", "whitelist=127.0.0.1"]);
    let client = cluster.client();
    ready(&client).await;
    eventually(|| client.drop_all()).await;
    (cluster, client)
}

/// The program with a node's settings.
fn agent(home: &Path, cluster: &Cluster, admin: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_honeygraph-agent"));
    command
        .args(arguments)
        .env_clear()
        .env("DATA_DIR", home.join("data"))
        .env("NETWORK", "spkcc")
        .env("DGRAPH_ALPHA", cluster.alpha_address())
        .env("ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
        .env("ADMIN_TOKEN", TOKEN);
    for listener in ["PUBLIC", "INGEST", "METRICS"] {
        command.env(format!("{listener}_LISTEN"), "127.0.0.1:0");
    }
    command
}

const TOKEN: &str = "0123456789abcdef0123";

/// Exit code and standard output.
fn told(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    println!("{text}{error}");
    (output.status.code(), text)
}

/// Edits a block, an account's balance and a checkpoint by hand.
async fn tamper(client: &DgraphClient) {
    let found = ask(
        client,
        "{ block(func: eq(blockNum, 28559200)) { uid } state(func: has(state.path), first: 2) { uid } \
         checkpoint(func: has(checkpoint.blockNum), first: 1) { uid } }",
    )
    .await;
    let uid = |of: &str, at: usize| {
        found[of][at]["uid"]
            .as_str()
            .unwrap()
            .parse::<honeygraph_agent::dgraph::client::Uid>()
            .unwrap()
    };
    let mut edit = Mutation::new();
    edit.set(uid("block", 0), "operations", "[1]");
    edit.set(uid("state", 0), "state.value", "\"edited\"");
    edit.clear(uid("state", 1), "state.path");
    edit.set(uid("checkpoint", 0), "checkpoint.kind", "other");
    client.write(None, vec![edit]).await.unwrap();
}

async fn ask(client: &DgraphClient, text: &str) -> Json {
    let answer = client.query(&Query::new(text), Reading::Strict).await.unwrap();
    answer.read().unwrap()
}

/// Fills, compares, edits and mends, each as a user does it.
async fn fill_and_mend(client: &DgraphClient, run: impl Fn(&[&str]) -> Output, blocks: usize) {
    let (code, out) = told(&run(&["dgraph", "rebuild"]));
    assert_eq!(code, Some(0));
    assert!(out.contains(&format!("{blocks} blocks stand in Dgraph")), "{out}");
    let (code, out) = told(&run(&["dgraph", "verify"]));
    assert_eq!(code, Some(0));
    assert!(
        out.contains(&format!("{blocks} blocks and ")) && out.ends_with(": 0 differences\n"),
        "{out}"
    );
    tamper(client).await;
    let (code, out) = told(&run(&["dgraph", "verify"]));
    assert_eq!(code, Some(1));
    assert!(out.contains("block 28559200: other operations"), "{out}");
    assert!(out.contains("checkpoint 28559201: differs"), "{out}");
    assert!(out.contains(": Dgraph has \"edited\", the log "), "{out}");
    assert!(out.contains(": not in Dgraph"), "{out}");
    assert!(out.ends_with(": 4 differences\n"), "{out}");
    let (code, out) = told(&run(&["dgraph", "verify", "--repair"]));
    assert_eq!(code, Some(0));
    assert!(out.contains(": 4 differences, 4 repaired; once more"), "{out}");
    assert_eq!(told(&run(&["dgraph", "verify"])).0, Some(0));
    let (code, _) = told(&run(&["dgraph", "rebuild", "--drop"]));
    assert_eq!(code, Some(0));
    assert_eq!(told(&run(&["dgraph", "verify"])).0, Some(0));
}

async fn stopped(program: PathBuf, directory: PathBuf) {
    let (mut cluster, client) = cluster(&program, &directory).await;
    let home = tempfile::tempdir().unwrap();
    let mut log = Log::new(home.path());
    log.extend(0..350);
    drop(log);
    let admin = free_port();
    let run = |arguments: &[&str]| agent(home.path(), &cluster, admin, arguments).output().unwrap();
    let (code, _) = told(&run(&["dgraph", "verify"]));
    assert_eq!(code, Some(1), "it is empty");
    let counted = ask(&client, "schema {}").await;
    assert!(
        !counted.to_string().contains("appliedBlock"),
        "comparing writes nothing"
    );
    fill_and_mend(&client, run, 350).await;

    // A Dgraph that is away cannot be compared.
    cluster.kill_alpha();
    let output = agent(home.path(), &cluster, admin, &["dgraph", "verify"])
        .output()
        .unwrap();
    assert_eq!(told(&output).0, Some(1));
}

async fn running(program: PathBuf, directory: PathBuf) {
    let (cluster, client) = cluster(&program, &directory).await;
    let home = tempfile::tempdir().unwrap();
    let mut log = Log::new(home.path());
    log.extend(0..350);
    drop(log);
    let admin = free_port();
    let mut node = agent(home.path(), &cluster, admin, &["run"]);
    let node = Running(node.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    // The node has the store from now on, and its listeners.
    let listens = || std::net::TcpStream::connect(("127.0.0.1", admin)).is_ok();
    for _ in 0..600 {
        if listens() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let run = |arguments: &[&str]| agent(home.path(), &cluster, admin, arguments).output().unwrap();
    fill_and_mend(&client, run, 350).await;
    let mut stranger = agent(home.path(), &cluster, admin, &["dgraph", "verify"]);
    let refused = stranger
        .env("ADMIN_TOKEN", "another-token-0123")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"));
    drop(node);
}

/// A node that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The page whose questions are asked.
const PAGE: &str = "docs/dgraph.md";

/// A question of a page, which is a block of `dql`, and its answer, which is the block of `json` that follows.
struct Shown {
    question: String,
    /// Where the answer stands in the page.
    answer: std::ops::Range<usize>,
}

fn questions_of(page: &str) -> Vec<Shown> {
    let mut shown = Vec::new();
    let mut rest = 0;
    while let Some(start) = page[rest..].find("```dql\n").map(|at| rest + at + 7) {
        let end = start + page[start..].find("\n```").unwrap();
        let answer = page[end..].find("```json\n").map_or(end, |at| end + at + 8);
        let ends = answer + page[answer..].find("\n```").unwrap();
        let next = page[end..].find("```dql\n").map_or(page.len(), |at| end + at);
        assert!(
            answer > end && answer < next,
            "no answer is shown to:\n{}",
            &page[start..end]
        );
        shown.push(Shown {
            question: page[start..end].to_owned(),
            answer: answer..ends,
        });
        rest = ends;
    }
    shown
}

/// The question with its variables, which its lines `# $name = value` give.
fn query_of(question: &str) -> Query {
    let values = question.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("# $")?.split_once(" = ")?;
        Some((format!("${name}"), value.to_owned()))
    });
    values.fold(Query::new(question), |query, (name, value)| {
        query.with(&name, value)
    })
}

/// Asks every question of the docs pages, and compares the answers with those shown. With `UPDATE_DOCS` set the pages
/// are written anew.
async fn docs(program: PathBuf, directory: PathBuf) {
    let (_cluster, client) = cluster(&program, &directory).await;
    let home = tempfile::tempdir().unwrap();
    let mut log = Log::new(home.path());
    log.extend(0..490);
    // One source goes another way for four blocks, until the others outweigh it.
    let blocks: Vec<Block> = log
        .blocks
        .iter()
        .map(|fetched| fetched.block.block().clone())
        .collect();
    for block in &blocks[485..490] {
        log.send("one", block);
    }
    for block in &blocks[490..494] {
        let own = Block {
            operations: Operations::new(vec![
                Operation::Put {
                    path: honeygraph_chain::Path::from_slashed("balances/alice"),
                    data: serde_json::from_str("1").unwrap(),
                },
                Operation::WriteMarker,
            ])
            .unwrap(),
            ..block.clone()
        };
        log.send("one", &own);
    }
    let (network, writer) = ("spkcc".parse().unwrap(), "docs".parse().unwrap());
    let store = ProjectionStore::open(client.clone(), &network, &writer).await;
    let settings = ProjectionSettings {
        step_blocks: 500,
        writers: Writers::One,
    };
    let mut projection = Projection::new(Arc::new(store.unwrap()), log.replica.store().clone(), settings);
    while projection.advance().await.unwrap() != Progress::Idle {}
    for source in ["two", "three"] {
        for block in &blocks[485..500] {
            log.send(source, block);
        }
    }
    log.replica.settle().unwrap();
    projection.forget_cursor();
    while projection.advance().await.unwrap() != Progress::Idle {}

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(PAGE);
    let mut text = std::fs::read_to_string(&path).unwrap();
    let questions = questions_of(&text);
    assert!(questions.len() >= 10, "{} questions", questions.len());
    // From the end on, so that places stay as they are.
    for Shown { question, answer } in questions.into_iter().rev() {
        let answered = client.query(&query_of(&question), Reading::Strict).await;
        let answered: Json = answered
            .unwrap_or_else(|error| panic!("{error}:\n{question}"))
            .read()
            .unwrap();
        let rows = answered.as_object().unwrap().values();
        for rows in rows {
            assert_ne!(rows, &Json::Array(Vec::new()), "no answer to:\n{question}");
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            text.replace_range(answer, &lines(&answered));
        } else {
            let expected: Json =
                serde_json::from_str(&text[answer]).unwrap_or_else(|error| panic!("{error}:\n{question}"));
            assert_eq!(answered, expected, "{question}");
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }

    // The call of the API's page: its question, and what the node answers of Dgraph.
    let page = std::fs::read_to_string(root.join("docs/api.md")).unwrap();
    let start = page.find("{\"query\": \"query").unwrap();
    let end = start + page[start..].find("'\n").unwrap();
    let answer_end = end + page[end..].find("\n```").unwrap();
    let call: Json = serde_json::from_str(&page[start..end]).unwrap();
    let shown: Json = serde_json::from_str(&page[end + 1..answer_end]).unwrap();
    let variables = call["variables"].as_object().unwrap().iter();
    let query = variables.fold(
        Query::new(call["query"].as_str().unwrap()),
        |query, (name, value)| query.with(name, value.as_str().unwrap()),
    );
    let answer: Json = client
        .query(&query, Reading::Strict)
        .await
        .unwrap()
        .read()
        .unwrap();
    assert_eq!(shown["data"], answer);
    let applied = projection.cursor().unwrap().applied.unwrap();
    assert_eq!(shown["appliedBlock"], applied.number.get());
    assert_eq!(shown["appliedHash"], applied.hash.to_string());
}

/// An answer, a row a line.
fn lines(answer: &Json) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (name, rows) in answer.as_object().unwrap() {
        if !text.is_empty() {
            text.push_str(",\n");
        }
        let rows = rows.as_array().unwrap().iter();
        let rows: Vec<String> = rows.map(|row| format!("\n  {row}")).collect();
        write!(text, " \"{name}\": [{}]", rows.join(",")).unwrap();
    }
    format!("{{{}}}", text.trim_start())
}
