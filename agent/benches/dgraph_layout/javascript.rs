//! The same facts as the JavaScript honeygraph keeps them, loaded by Dgraph's own loader.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use honeygraph_agent::dgraph::client::DgraphClient;
use honeygraph_chain::Operation;
use honeygraph_chain::block::HashedBlock;

use super::cluster::{Cluster, eventually};

/// The schema of the JavaScript honeygraph, as far as blocks, operations and state go.
const SCHEMA: &str = "
blockNum: int @index(int) .
blockHash: string @index(hash) .
previousHash: string @index(hash) .
timestamp: datetime @index(hour) .
forkId: string @index(hash, term) .
isFinalized: bool @index(bool) .
operations: [uid] @reverse .
op.id: string @index(exact) .
block: uid .
op.blockNum: int @index(int) .
op.index: int .
op.type: string @index(term) .
op.path: string @index(term, fulltext) .
op.data: string .
state.path: string @index(exact, term) .
state.value: string .
state.blockNum: int @index(int) .
state.forkId: string @index(term) .
";

/// Facts as the loader reads them.
#[derive(Default)]
pub(crate) struct Facts {
    text: String,
    states: usize,
}

impl Facts {
    /// A block and its operations.
    pub(crate) fn block(&mut self, block: &HashedBlock, unix_millis: i64) {
        let number = block.number().get();
        let time = jiff::Timestamp::from_millisecond(unix_millis).unwrap();
        let node = format!("_:b{number}");
        for (predicate, value) in [
            ("dgraph.type", "Block"),
            ("blockNum", &number.to_string()),
            ("blockHash", &block.hash().to_string()),
            ("previousHash", &block.block().previous_hash.to_string()),
            ("timestamp", &time.to_string()),
            ("forkId", "main"),
            ("isFinalized", "true"),
        ] {
            self.fact(&node, predicate, value);
        }
        for (index, operation) in block.block().operations.as_slice().iter().enumerate() {
            let Some(path) = operation.path() else {
                continue;
            };
            let own = format!("_:o{number}x{index}");
            self.fact(&own, "dgraph.type", "Operation");
            self.fact(&own, "op.id", &format!("{number}:{index}"));
            self.fact(&own, "op.blockNum", &number.to_string());
            self.fact(&own, "op.index", &index.to_string());
            self.fact(&own, "op.path", &path.to_string());
            if let Operation::Put { data, .. } = operation {
                let text = String::from_utf8(data.to_canonical()).unwrap();
                self.fact(&own, "op.type", "PUT");
                self.fact(&own, "op.data", &text);
            } else {
                self.fact(&own, "op.type", "DEL");
            }
            writeln!(self.text, "{own} <block> {node} .").unwrap();
            writeln!(self.text, "{node} <operations> {own} .").unwrap();
        }
    }

    /// A node of the current state.
    pub(crate) fn state(&mut self, path: &str, value: &str, number: u64) {
        let node = format!("_:s{}", self.states);
        self.states += 1;
        for (predicate, value) in [
            ("dgraph.type", "State"),
            ("state.path", path),
            ("state.value", value),
            ("state.blockNum", &number.to_string()),
            ("state.forkId", "main"),
        ] {
            self.fact(&node, predicate, value);
        }
    }

    fn fact(&mut self, node: &str, predicate: &str, value: &str) {
        let value = serde_json::to_string(value).unwrap();
        writeln!(self.text, "{node} <{predicate}> {value} .").unwrap();
    }
}

/// How long `dgraph live` takes to load facts into an empty cluster.
pub(crate) async fn live(cluster: &Cluster, client: &DgraphClient, home: &Path, facts: &Facts) -> Duration {
    eventually(|| client.drop_all()).await;
    let file = home.join("blocks.rdf");
    let schema = home.join("javascript.schema");
    std::fs::write(&file, &facts.text).unwrap();
    std::fs::write(&schema, SCHEMA).unwrap();
    let began = Instant::now();
    let ended = Command::new(cluster.program())
        .arg("live")
        .arg("--files")
        .arg(&file)
        .arg("--schema")
        .arg(&schema)
        .args([
            "--alpha",
            &cluster.alpha_address(),
            "--zero",
            &cluster.zero_address(),
        ])
        .args(["--http", "127.0.0.1:0", "--bindall=false"])
        .arg("--tmp")
        .arg(home.join("live"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(ended.success(), "dgraph live: {ended}");
    began.elapsed()
}
