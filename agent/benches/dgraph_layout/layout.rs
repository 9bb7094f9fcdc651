//! The layouts that are compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use honeygraph_agent::dgraph::client::{DgraphClient, Mutation, Node, Query, Uid, Value};
use honeygraph_chain::state::{Leaf, Leaves, MemoryState};
use honeygraph_chain::{Operation, Path, PathKey};
use honeygraph_honeycomb::reference_chain::ChainBlock;

/// How operations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operations {
    /// A node each.
    Nodes,
    /// As one text of their block, whose paths and accounts are lists.
    Text,
}

/// How nodes get their uids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// Dgraph chooses, and tells.
    New,
    /// They are chosen here, out of a region that was leased once.
    Chosen,
}

/// How the current state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    None,
    /// A node a leaf; its uid comes from a map that the writer keeps.
    Mapped,
    /// A node a leaf; its uid is a hash of its path.
    Hashed,
    /// A node a leaf; its uid is asked for before each write.
    Asked,
    /// A node an object, with the scalars right below it as one text; a node a leaf right below a top-level
    /// name, where networks keep what has a member an account.
    Rows,
}

/// One way to keep blocks.
pub(crate) struct Layout {
    pub(crate) name: String,
    pub(crate) schema: String,
    operations: Operations,
    naming: Naming,
    state: State,
    /// Predicates that are left out.
    without: &'static [&'static str],
    /// Whether leaves carry the block that wrote them, and nodes a type.
    stamped: bool,
    typed: bool,
    /// Blocks after which the state is written, where that is not with every batch.
    state_after: Option<usize>,
}

/// All layouts.
pub(crate) struct Layouts;

/// What every layout has; each predicate can be replaced.
const SCHEMA: [(&str, &str); 19] = [
    ("blockNum", "int @index(int)"),
    ("blockHash", "string @index(hash)"),
    ("previousHash", "string"),
    ("timestamp", "datetime"),
    ("operations", "string"),
    ("op.blockNum", "int"),
    ("op.index", "int"),
    ("op.type", "string"),
    ("op.data", "string"),
    ("op.path", "string @index(hash)"),
    ("op.account", "string @index(hash)"),
    ("paths", "[string] @index(hash)"),
    ("accounts", "[string] @index(hash)"),
    ("state.path", "string @index(exact)"),
    ("state.value", "string"),
    ("state.blockNum", "int"),
    ("appliedBlock", "int"),
    ("appliedHash", "string"),
    ("claimed", "int"),
];

impl Layouts {
    /// Every layout, in the order in which they are printed.
    pub(crate) fn all() -> Vec<Layout> {
        let text = || Layout::new("text", Operations::Text, State::None);
        let nodes = || Layout::new("node an operation", Operations::Nodes, State::None);
        vec![
            nodes(),
            nodes().named("without accounts").without(&["op.account"]),
            nodes().named("Dgraph chooses uids").naming(Naming::New),
            nodes().named("with dgraph.type").typed(),
            text(),
            text().named("without accounts").without(&["accounts"]),
            text().named("without previousHash").without(&["previousHash"]),
            text().named("Dgraph chooses uids").naming(Naming::New),
            text().named("with dgraph.type").typed(),
            text()
                .named("exact instead of hash")
                .index("paths", "[string] @index(exact)"),
            text()
                .named("term index too")
                .index("paths", "[string] @index(hash, term)"),
            text()
                .named("trigram index too")
                .index("paths", "[string] @index(hash, trigram)"),
            Layout::new("text + leaves, uid hashed", Operations::Text, State::Hashed),
            Layout::new(
                "text + leaves, uid hashed, their block",
                Operations::Text,
                State::Hashed,
            )
            .stamped(),
            Layout::new(
                "text + leaves, uid hashed, hash index",
                Operations::Text,
                State::Hashed,
            )
            .index("state.path", "string @index(hash)"),
            Layout::new("text + leaves, uid mapped", Operations::Text, State::Mapped),
            Layout::new("text + leaves, uid asked for", Operations::Text, State::Asked),
            Layout::new("text + rows, uid hashed", Operations::Text, State::Rows),
            Layout::new(
                "text + rows, uid hashed, state after 1,000 blocks",
                Operations::Text,
                State::Rows,
            )
            .state_after(1_000),
            Layout::new(
                "text + rows, uid hashed, state once",
                Operations::Text,
                State::Rows,
            )
            .state_after(usize::MAX),
            Layout::new(
                "node an operation + leaves, uid hashed",
                Operations::Nodes,
                State::Hashed,
            ),
        ]
    }
}

/// Uids that are chosen here.
pub(crate) struct Regions {
    first: u64,
    /// Keeps people from making two paths meet on purpose.
    hasher: RandomState,
}

/// Blocks and operations of one region.
const DENSE: u64 = 1 << 30;
/// Bits of a hashed uid.
const HASHED_BITS: u32 = 60;

impl Regions {
    /// Leases them.
    pub(crate) async fn lease(client: &DgraphClient) -> Self {
        let lease = client.allocate_uids(DENSE + (1 << HASHED_BITS)).await.unwrap();
        Self {
            first: lease.start().0,
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn cursor(&self) -> Uid {
        Uid(self.first)
    }

    fn block(&self, place: u64) -> Uid {
        Uid(self.first + 1 + place)
    }

    fn operation(&self, place: u64) -> Uid {
        Uid(self.first + DENSE / 4 + place)
    }

    fn mapped(&self, place: u64) -> Uid {
        Uid(self.first + DENSE / 2 + place)
    }

    fn hashed(&self, path: &[u8]) -> Uid {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path);
        Uid(self.first + DENSE + (hasher.finish() >> (64 - HASHED_BITS)))
    }
}

/// One transaction.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) mutation: Mutation,
    /// Leaves whose nodes have to be asked for.
    pub(crate) asks_first: BTreeMap<String, Option<String>>,
}

impl Layout {
    fn new(name: &str, operations: Operations, state: State) -> Self {
        let schema = SCHEMA.map(|(name, kind)| format!("{name}: {kind} .")).join("\n");
        Self {
            name: name.to_owned(),
            schema,
            operations,
            naming: Naming::Chosen,
            state,
            without: &[],
            stamped: false,
            typed: false,
            state_after: None,
        }
    }

    fn named(mut self, addition: &str) -> Self {
        self.name = format!("{}, {addition}", self.name);
        self
    }

    fn without(self, without: &'static [&'static str]) -> Self {
        Self { without, ..self }
    }

    fn naming(self, naming: Naming) -> Self {
        Self { naming, ..self }
    }

    fn stamped(self) -> Self {
        Self {
            stamped: true,
            ..self
        }
    }

    fn typed(self) -> Self {
        Self { typed: true, ..self }
    }

    fn state_after(self, blocks: usize) -> Self {
        Self {
            state_after: Some(blocks),
            ..self
        }
    }

    fn index(mut self, predicate: &str, kind: &str) -> Self {
        let line = |line: &str| {
            if line.starts_with(&format!("{predicate}:")) {
                format!("{predicate}: {kind} .")
            } else {
                line.to_owned()
            }
        };
        self.schema = self.schema.lines().map(line).collect::<Vec<_>>().join("\n");
        self
    }

    /// Whether it is the one that docs/dgraph.md chooses.
    pub(crate) fn is_chosen(&self) -> bool {
        self.name == "text + rows, uid hashed"
    }

    /// Whether questions are asked of it.
    pub(crate) fn is_asked(&self) -> bool {
        matches!(
            self.name.as_str(),
            "text + rows, uid hashed"
                | "text + leaves, uid hashed"
                | "node an operation + leaves, uid hashed"
        )
    }

    /// Whether the state has a node an object, not a leaf.
    pub(crate) fn has_rows(&self) -> bool {
        self.state == State::Rows
    }

    /// Whether operations have nodes of their own.
    pub(crate) fn has_operation_nodes(&self) -> bool {
        self.operations == Operations::Nodes
    }

    /// What has to be written, batch by batch.
    pub(crate) fn batches(&self, regions: &Regions, blocks: &[Arc<ChainBlock>], size: usize) -> Vec<Batch> {
        let mut writer = Writer {
            layout: self,
            regions,
            blocks: 0,
            operations: 0,
            mapped: HashMap::new(),
            state: MemoryState::default(),
        };
        blocks
            .chunks(self.state_after.unwrap_or(size))
            .flat_map(|window| {
                let mut batches: Vec<Batch> =
                    window.chunks(size).map(|blocks| writer.batch(blocks)).collect();
                if let Some(last) = batches.last_mut() {
                    writer.state(window, last);
                }
                batches
            })
            .collect()
    }
}

struct Writer<'a> {
    layout: &'a Layout,
    regions: &'a Regions,
    blocks: u64,
    operations: u64,
    mapped: HashMap<PathKey, u64>,
    /// For rows; holds what was written since the first block alone.
    state: MemoryState,
}

impl Writer<'_> {
    fn batch(&mut self, blocks: &[Arc<ChainBlock>]) -> Batch {
        let mut batch = Batch::default();
        for block in blocks {
            self.block(block, &mut batch.mutation);
        }
        batch
    }

    fn node(&self, name: &str, place: u64, chosen: Uid) -> Node {
        match self.layout.naming {
            Naming::New => Node::New(format!("{name}{place}")),
            Naming::Chosen => chosen.into(),
        }
    }

    fn set(&self, mutation: &mut Mutation, node: &Node, predicate: &str, value: impl Into<Value>) {
        if !self.layout.without.contains(&predicate) {
            mutation.set(node.clone(), predicate, value);
        }
    }

    fn block(&mut self, block: &ChainBlock, mutation: &mut Mutation) {
        let place = self.blocks;
        self.blocks += 1;
        let node = self.node("b", place, self.regions.block(place));
        let number = i64::try_from(block.block.block().number.get()).unwrap();
        let time = jiff::Timestamp::from_millisecond(block.unix_millis).unwrap();
        self.set(mutation, &node, "blockNum", number);
        self.set(mutation, &node, "blockHash", block.block.hash().to_string());
        self.set(
            mutation,
            &node,
            "previousHash",
            block.block.block().previous_hash.to_string(),
        );
        self.set(mutation, &node, "timestamp", Value::Time(time));
        if self.layout.typed {
            self.set(mutation, &node, "dgraph.type", "Block");
        }
        match self.layout.operations {
            Operations::Text => self.text(block, &node, mutation),
            Operations::Nodes => self.nodes(block, number, mutation),
        }
    }

    fn text(&self, block: &ChainBlock, node: &Node, mutation: &mut Mutation) {
        let mut text = vec![b'['];
        let (mut paths, mut accounts) = (BTreeSet::new(), BTreeSet::new());
        for (index, operation) in block.block.block().operations.as_slice().iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            operation.write_canonical_indexed(index, &mut text);
            if let Some(path) = path_of(operation) {
                paths.insert(path.to_string());
                accounts.extend(account_of(path));
            }
        }
        text.push(b']');
        self.set(mutation, node, "operations", String::from_utf8(text).unwrap());
        for path in paths {
            self.set(mutation, node, "paths", path);
        }
        for account in accounts {
            self.set(mutation, node, "accounts", account);
        }
    }

    fn nodes(&mut self, block: &ChainBlock, number: i64, mutation: &mut Mutation) {
        for (index, operation) in block.block.block().operations.as_slice().iter().enumerate() {
            // A write marker is where one index is left out.
            let Some(path) = path_of(operation) else {
                continue;
            };
            let place = self.operations;
            self.operations += 1;
            let node = self.node("o", place, self.regions.operation(place));
            self.set(mutation, &node, "op.blockNum", number);
            self.set(mutation, &node, "op.index", i64::try_from(index).unwrap());
            self.set(mutation, &node, "op.path", path.to_string());
            match operation {
                Operation::Put { data, .. } => {
                    let mut text = Vec::new();
                    data.write_canonical(&mut text);
                    self.set(mutation, &node, "op.type", "put");
                    self.set(mutation, &node, "op.data", String::from_utf8(text).unwrap());
                }
                _ => self.set(mutation, &node, "op.type", "del"),
            }
            if let Some(account) = account_of(path) {
                self.set(mutation, &node, "op.account", account);
            }
            if self.layout.typed {
                self.set(mutation, &node, "dgraph.type", "Operation");
            }
        }
    }

    /// The state after some blocks: each leaf that changed once.
    fn state(&mut self, blocks: &[Arc<ChainBlock>], batch: &mut Batch) {
        let mut changed: BTreeMap<&PathKey, (bool, Option<&Leaf>, i64)> = BTreeMap::new();
        for block in blocks {
            let number = i64::try_from(block.block.block().number.get()).unwrap();
            for change in &block.effect.changes {
                let entry = changed
                    .entry(&change.key)
                    .or_insert((change.before.is_some(), None, 0));
                entry.1 = change.after.as_ref();
                entry.2 = number;
            }
        }
        changed.retain(|_, (stood, leaf, _)| *stood || leaf.is_some());
        match self.layout.state {
            State::None => {}
            State::Rows => self.rows(&changed, &mut batch.mutation),
            State::Asked => {
                batch.asks_first = changed
                    .iter()
                    .map(|(key, (_, leaf, _))| (text_of(key), leaf.map(text_of_leaf)))
                    .collect();
            }
            State::Mapped | State::Hashed => {
                for (key, (stood, leaf, number)) in changed {
                    self.leaf(key, stood, leaf, number, &mut batch.mutation);
                }
            }
        }
    }

    fn leaf(
        &mut self,
        key: &PathKey,
        stood: bool,
        leaf: Option<&Leaf>,
        number: i64,
        mutation: &mut Mutation,
    ) {
        let uid = if self.layout.state == State::Mapped {
            let next = u64::try_from(self.mapped.len()).unwrap();
            self.regions
                .mapped(*self.mapped.entry(key.clone()).or_insert(next))
        } else {
            self.regions.hashed(key.as_bytes())
        };
        match leaf {
            Some(leaf) => {
                if !stood {
                    mutation.set(uid, "state.path", text_of(key));
                }
                mutation.set(uid, "state.value", text_of_leaf(leaf));
                if self.layout.stamped {
                    mutation.set(uid, "state.blockNum", number);
                }
            }
            None => {
                mutation.clear(uid, "state.path");
                mutation.clear(uid, "state.value");
                if self.layout.stamped {
                    mutation.clear(uid, "state.blockNum");
                }
            }
        }
    }

    fn rows(&mut self, changed: &BTreeMap<&PathKey, (bool, Option<&Leaf>, i64)>, mutation: &mut Mutation) {
        let mut parents = BTreeSet::new();
        for (key, (stood, leaf, number)) in changed {
            self.state.set((*key).clone(), leaf.cloned());
            let parent = key.ancestors().last().unwrap();
            if parent.to_path().unwrap().0.len() < 2 {
                self.leaf(key, *stood, *leaf, *number, mutation);
            } else {
                parents.insert(parent);
            }
        }
        for parent in parents {
            let depth = parent.to_path().unwrap().0.len() + 1;
            let Ok(below) = self.state.leaves_at_or_below(&parent);
            let members: serde_json::Map<String, serde_json::Value> = below
                .into_iter()
                .filter_map(|(key, leaf)| {
                    let mut path = key.to_path().unwrap().0;
                    (path.len() == depth).then(|| {
                        let value = serde_json::from_str(&text_of_leaf(&leaf)).unwrap();
                        (path.pop().unwrap(), value)
                    })
                })
                .collect();
            let uid = self.regions.hashed(parent.as_bytes());
            if members.is_empty() {
                mutation.clear(uid, "state.path");
                mutation.clear(uid, "state.value");
            } else {
                mutation.set(uid, "state.path", text_of(&parent));
                mutation.set(uid, "state.value", serde_json::to_string(&members).unwrap());
            }
        }
    }
}

/// Nodes of leaves that were asked for, or made, before.
#[derive(Default)]
pub(crate) struct KnownPaths(HashMap<String, Uid>);

/// Writes leaves whose nodes are not known: asks for those first, in the same transaction.
pub(crate) async fn ask_and_write(
    client: &DgraphClient,
    cursor: Uid,
    place: i64,
    mut batch: Batch,
    known: &mut KnownPaths,
) {
    #[derive(serde::Deserialize)]
    struct Found {
        uid: String,
        path: String,
    }
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        cursor: Vec<serde_json::Value>,
        #[serde(default)]
        found: Vec<Found>,
    }
    let paths: Vec<&String> = batch.asks_first.keys().collect();
    let list = serde_json::to_string(&paths).unwrap();
    let query = Query::new(format!(
        "query q($place: int) {{ cursor(func: uid({cursor})) @filter(eq(appliedBlock, $place)) {{ uid }} \
         found(func: eq(state.path, {list})) {{ uid path: state.path }} }}"
    ))
    .with("$place", place.to_string());
    let mut transaction = client.begin();
    let answer: Answer = transaction.query(&query).await.unwrap().read().unwrap();
    assert_eq!(answer.cursor.len(), 1, "the cursor moved");
    known.0.clear();
    known.0.extend(
        answer
            .found
            .into_iter()
            .map(|found| (found.path, found.uid.parse::<Uid>().unwrap())),
    );
    for (place, (path, value)) in batch.asks_first.into_iter().enumerate() {
        let node = known.0.get(&path).map(|uid| Node::from(*uid));
        match (node, value) {
            (Some(node), Some(value)) => batch.mutation.set(node, "state.value", value),
            (None, Some(value)) => {
                let node = Node::New(format!("s{place}"));
                batch.mutation.set(node.clone(), "state.path", path);
                batch.mutation.set(node, "state.value", value);
            }
            (Some(node), None) => {
                batch.mutation.clear(node.clone(), "state.path");
                batch.mutation.clear(node, "state.value");
            }
            (None, None) => {}
        }
    }
    batch.mutation.set(cursor, "appliedBlock", place + 1);
    transaction.write(None, vec![batch.mutation]).await.unwrap();
    transaction.commit().await.unwrap();
}

pub(crate) fn path_of(operation: &Operation) -> Option<&Path> {
    match operation {
        Operation::Put { path, .. } | Operation::Del { path } => Some(path),
        Operation::WriteMarker => None,
    }
}

/// The account that a path names: its second segment where that can be a Hive account.
pub(crate) fn account_of(path: &Path) -> Option<String> {
    let segment = path.0.get(1)?;
    let letter = |byte: u8| byte.is_ascii_lowercase();
    let fits = (3..=16).contains(&segment.len())
        && segment.bytes().next().is_some_and(letter)
        && segment
            .bytes()
            .all(|byte| letter(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    fits.then(|| segment.clone())
}

fn text_of(key: &PathKey) -> String {
    key.to_path().unwrap().to_string()
}

fn text_of_leaf(leaf: &Leaf) -> String {
    let mut text = Vec::new();
    leaf.value().write_canonical(&mut text);
    String::from_utf8(text).unwrap()
}
