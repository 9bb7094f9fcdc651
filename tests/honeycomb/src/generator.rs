//! Content like a honeycomb's, without end: the same seed and state give the same blocks.
//!
//! A few accounts do most of what happens, as on a real network. Every batch is one event (a transfer, an
//! order, a contract, a payout, ...). Old orders and contracts are deleted, so the state stays bounded, and
//! every kind of thing has one shape, so that a leaf never stands where a subtree stands.

use std::collections::{HashSet, VecDeque};

use honeygraph_chain::operation::Operations;
use honeygraph_chain::state::{Leaves, MemoryState};
use honeygraph_chain::{BlockNumber, JsonValue, Operation, Path, PathKey};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What the generated content looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeneratorSettings {
    /// Operations of an average block that is not empty, write markers included; at least 1. One takes about
    /// 200 bytes.
    pub operations_per_block: u32,
    /// Blocks without operations, of 1,000.
    pub empty_blocks_per_thousand: u32,
    /// Accounts that are invented beside those in the state.
    pub accounts: u32,
    /// Open orders, contracts and messages, of each, above which the oldest goes for each new one.
    pub open_entries: usize,
}

impl Default for GeneratorSettings {
    /// 10 operations or 2 KB a block, one block in 20 empty, about 13,000 leaves.
    fn default() -> Self {
        Self {
            operations_per_block: 10,
            empty_blocks_per_thousand: 50,
            accounts: 1_000,
            open_entries: 500,
        }
    }
}

impl GeneratorSettings {
    /// Blocks of exactly the wanted size, none empty: for benchmarks.
    pub fn benchmark() -> Self {
        Self {
            empty_blocks_per_thousand: 0,
            ..Self::default()
        }
    }
}

/// A state that has a leaf where every honeycomb has a subtree, or the other way round.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no content can be generated on this state: `{0}` does not have the shape that it has in a honeycomb"
)]
pub struct UnfitState(pub Path);

struct Account {
    name: String,
    /// In thousandths of a token.
    balance: u64,
}

/// Makes the operations of one block after another.
pub struct Generator {
    settings: GeneratorSettings,
    random: ChaCha8Rng,
    /// The busiest first.
    accounts: Vec<Account>,
    /// Paths of the open sell orders, oldest first.
    orders: VecDeque<Path>,
    /// Paths of the messages about what happened, oldest first.
    feed: VecDeque<Path>,
    /// Paths of the contracts, oldest first.
    contracts: VecDeque<Path>,
    token_supply: u64,
    /// Names made in this block, so that no two are equal.
    serial: u64,
}

const SYLLABLES: [&str; 16] = [
    "hon", "bee", "pol", "len", "wax", "dro", "ney", "comb", "api", "ary", "nec", "tar", "que", "sting",
    "swa", "rm",
];

/// The leaves below `stats`.
const STATISTICS: [&str; 6] = [
    "hashBackup",
    "hashLastIBlock",
    "lastBlock",
    "lastPrice",
    "safetyLimit",
    "tokenSupply",
];

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

impl Generator {
    /// A generator that goes on from `state`.
    pub fn new(settings: GeneratorSettings, seed: u64, state: &MemoryState) -> Result<Self, UnfitState> {
        for (fixed, shape) in fixed_paths() {
            shape.check(state, &fixed)?;
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut accounts: Vec<Account> = leaves_below(state, &["balances"])
            .filter_map(|(path, value)| match path.as_slice() {
                [_, name] => Some(Account {
                    name: name.clone(),
                    balance: whole(&value),
                }),
                _ => None,
            })
            .collect();
        let mut names: HashSet<String> = accounts.iter().map(|account| account.name.clone()).collect();
        for number in 0..settings.accounts {
            let first = SYLLABLES[random.random_range(0..SYLLABLES.len())];
            let second = SYLLABLES[random.random_range(0..SYLLABLES.len())];
            let name = format!("{first}{second}{number}");
            if names.insert(name.clone()) {
                let balance = random.random_range(1_000..10_000_000);
                accounts.push(Account { name, balance });
            }
        }
        accounts.retain(|account| {
            account_paths(&account.name)
                .iter()
                .all(|(path, shape)| shape.check(state, path).is_ok())
        });
        if accounts.is_empty() {
            return Err(UnfitState(path(["balances"])));
        }
        Ok(Self {
            settings,
            random,
            accounts,
            orders: entries_below(state, &["dex", "hive", "sellOrders"], 4),
            feed: entries_below(state, &["feed"], 2),
            contracts: entries_below(state, &["contract"], 3),
            token_supply: 100_000_000_000,
            serial: 0,
        })
    }

    /// The operations of the next block.
    pub fn next_operations(&mut self, number: BlockNumber) -> Operations {
        self.serial = 0;
        let mut operations = Vec::new();
        if !self.happens(self.settings.empty_blocks_per_thousand) {
            let average = self.settings.operations_per_block.max(1);
            let wanted = self
                .random
                .random_range(average.div_ceil(2)..=average + average / 2);
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            while operations.len() < wanted {
                self.event(number, wanted - operations.len(), &mut operations);
                operations.push(Operation::WriteMarker);
            }
        }
        // Closed by construction; an unclosed block would be an empty one.
        Operations::new(operations).unwrap_or_default()
    }

    /// One batch of at least one operation, without its write marker.
    fn event(&mut self, number: BlockNumber, room: usize, operations: &mut Vec<Operation>) {
        if room < 3 {
            self.statistics(number, operations);
            return;
        }
        match self.random.random_range(0..100_u32) {
            0..20 => self.transfer(number, operations),
            20..47 => self.sell_order(number, operations),
            47..54 => self.fill_order(operations),
            54..86 => self.contract(number, operations),
            86..91 => self.runner(operations),
            _ => {
                self.payout(operations);
                self.statistics(number, operations);
            }
        }
    }

    fn transfer(&mut self, number: BlockNumber, operations: &mut Vec<Operation>) {
        let (from, to) = (self.account(), self.account());
        let amount = self.random.random_range(0..=self.accounts[from].balance / 4);
        self.accounts[from].balance -= amount;
        self.accounts[to].balance = self.accounts[to].balance.saturating_add(amount);
        operations.push(self.put_balance(from));
        operations.push(self.put_balance(to));
        let message = format!(
            "@{}| Sent @{} {}.{:03} LARYNX for the frames of the {}. harvest, to be put up before the evening",
            self.accounts[from].name,
            self.accounts[to].name,
            amount / 1_000,
            amount % 1_000,
            self.random.random_range(2..100_u32),
        );
        let transaction = self.content_id();
        let entry = path(["feed", &self.unique(&transaction, number)]);
        operations.push(Operation::Put {
            path: entry.clone(),
            data: text(&message),
        });
        self.feed.push_back(entry);
        if self.feed.len() > self.settings.open_entries {
            operations.extend(self.feed.pop_front().map(|path| Operation::Del { path }));
        }
    }

    fn sell_order(&mut self, number: BlockNumber, operations: &mut Vec<Operation>) {
        let seller = self.account();
        let amount = self
            .random
            .random_range(1..=self.accounts[seller].balance / 10 + 1);
        let rate = f64::from(self.random.random_range(10_000..2_000_000_u32)) / 1_000_000.0;
        let transaction = self.content_id();
        let name = self.accounts[seller].name.clone();
        self.accounts[seller].balance = self.accounts[seller].balance.saturating_sub(amount);
        let order = path([
            "dex",
            "hive",
            "sellOrders",
            &self.unique(&rate.to_string(), number),
        ]);
        operations.push(Operation::Put {
            path: order.clone(),
            data: object([
                ("amount", count(amount)),
                ("block", count(number.get())),
                (
                    "expire_path",
                    text(&format!("{}:{transaction}", number.saturating_add(864_000))),
                ),
                ("from", text(&name)),
                ("hive", count(amount / 3)),
                ("rate", JsonValue::Number(rate)),
                ("sig", text(&self.signature())),
                ("txid", text(&transaction)),
                ("type", text("hive:sell")),
            ]),
        });
        operations.push(self.put_balance(seller));
        self.orders.push_back(order);
        if self.orders.len() > self.settings.open_entries {
            operations.extend(self.orders.pop_front().map(|path| Operation::Del { path }));
        }
    }

    fn fill_order(&mut self, operations: &mut Vec<Operation>) {
        let buyer = self.account();
        if !self.orders.is_empty() {
            let place = self.random.random_range(0..self.orders.len());
            operations.extend(self.orders.remove(place).map(|path| Operation::Del { path }));
        }
        let amount = self.random.random_range(1..1_000_000);
        self.accounts[buyer].balance = self.accounts[buyer].balance.saturating_add(amount);
        operations.push(self.put_balance(buyer));
        let tick = f64::from(self.random.random_range(10_000..2_000_000_u32)) / 1_000_000.0;
        operations.push(Operation::Put {
            path: path(["dex", "hive", "tick"]),
            data: JsonValue::Number(tick),
        });
    }

    fn contract(&mut self, number: BlockNumber, operations: &mut Vec<Operation>) {
        let owner = self.account();
        let name = self.accounts[owner].name.clone();
        let files = (0..self.random.random_range(1..5_u32))
            .map(|_| (self.content_id(), count(self.random.random_range(1_000..900_000))))
            .collect();
        let contract = path(["contract", &name, &self.unique("0", number)]);
        operations.push(Operation::Put {
            path: contract.clone(),
            data: object([
                (
                    "c",
                    JsonValue::Number(f64::from(self.random.random_range(1..4_u32))),
                ),
                ("df", JsonValue::object(files)),
                ("e", text(&format!("{}:0", number.saturating_add(864_000)))),
                ("m", text(&self.metadata())),
                ("n", JsonValue::Array(vec![text("dlux-io"), text(&name)])),
                ("open", JsonValue::Bool(self.happens(500))),
                ("sig", text(&self.signature())),
                ("t", text(&name)),
                ("u", count(self.random.random_range(10_000..9_000_000))),
            ]),
        });
        operations.push(Operation::Put {
            path: path(["spk", &name]),
            data: count(self.random.random_range(0..5_000_000)),
        });
        self.contracts.push_back(contract);
        if self.contracts.len() > self.settings.open_entries {
            operations.extend(self.contracts.pop_front().map(|path| Operation::Del { path }));
        }
    }

    fn runner(&mut self, operations: &mut Vec<Operation>) {
        let account = self.account();
        let runner = path(["runners", &self.accounts[account].name]);
        operations.push(if self.happens(200) {
            Operation::Del { path: runner }
        } else {
            let governance = count(self.random.random_range(1..100_000));
            Operation::Put {
                path: runner,
                data: object([("g", governance)]),
            }
        });
    }

    fn payout(&mut self, operations: &mut Vec<Operation>) {
        let account = self.account();
        let amount = self.random.random_range(1..10_000);
        self.token_supply = self.token_supply.wrapping_add(amount) % (1 << 50);
        self.accounts[account].balance = self.accounts[account].balance.saturating_add(amount);
        operations.push(self.put_balance(account));
    }

    /// What every honeycomb writes about itself.
    fn statistics(&mut self, number: BlockNumber, operations: &mut Vec<Operation>) {
        let price = f64::from(self.random.random_range(100_000..900_000_u32)) / 1_000_000.0;
        let values = [
            text(&self.content_id()),
            text(&self.content_id()),
            count(number.get()),
            JsonValue::Number(price),
            count(self.token_supply / 1_000),
            count(self.token_supply),
        ];
        let members = STATISTICS.map(str::to_owned).into_iter().zip(values);
        operations.push(Operation::Put {
            path: path(["stats"]),
            data: JsonValue::object(members.collect()),
        });
    }

    fn put_balance(&self, account: usize) -> Operation {
        let account = &self.accounts[account];
        Operation::Put {
            path: path(["balances", &account.name]),
            data: count(account.balance),
        }
    }

    /// A place among the accounts: two thirds of all picks fall on the first eighth.
    fn account(&mut self) -> usize {
        let number = u64::try_from(self.accounts.len()).unwrap_or(u64::MAX);
        let mut limit = number;
        for _ in 0..2 {
            limit = self.random.random_range(0..limit) + 1;
        }
        usize::try_from(self.random.random_range(0..limit)).unwrap_or_default()
    }

    fn happens(&mut self, per_thousand: u32) -> bool {
        self.random.random_range(0..1_000) < per_thousand
    }

    /// A name that no other thing has: of the block and a serial in it.
    fn unique(&mut self, prefix: &str, number: BlockNumber) -> String {
        self.serial += 1;
        format!("{prefix}:{number}:{}", self.serial)
    }

    /// What a contract says about its files, in one line.
    fn metadata(&mut self) -> String {
        let mut metadata = "1|autoFolder".to_owned();
        for _ in 0..self.random.random_range(3..9_u32) {
            metadata.push_str(",honey-frame.mp4.");
            metadata.push_str(&self.content_id());
        }
        metadata
    }

    /// As long as a Hive signature.
    fn signature(&mut self) -> String {
        let mut signature = format!("SIG_K1_{}{}", self.content_id(), self.content_id());
        signature.truncate(101);
        signature
    }

    fn content_id(&mut self) -> String {
        let mut id = String::with_capacity(46);
        id.push_str("Qm");
        for _ in 0..4 {
            // Eleven digits of base 58 out of one word.
            let mut word = self.random.random::<u64>();
            for _ in 0..11 {
                let digit = usize::try_from(word % 58).unwrap_or_default();
                id.push(char::from(BASE58[digit]));
                word /= 58;
            }
        }
        id
    }
}

/// What stands at a path in a honeycomb.
#[derive(Clone, Copy)]
enum Shape {
    Leaf,
    Subtree,
}

impl Shape {
    fn check(self, state: &MemoryState, path: &Path) -> Result<(), UnfitState> {
        let key = PathKey::from(path);
        let Ok(leaf) = state.leaf(&key);
        let Ok(below) = state.has_leaf_below(&key);
        let fits = match self {
            Self::Leaf => !below,
            Self::Subtree => leaf.is_none(),
        };
        if fits {
            Ok(())
        } else {
            Err(UnfitState(path.clone()))
        }
    }
}

fn fixed_paths() -> Vec<(Path, Shape)> {
    let mut paths = vec![
        (path(["dex", "hive", "tick"]), Shape::Leaf),
        (path(["dex"]), Shape::Subtree),
        (path(["dex", "hive"]), Shape::Subtree),
        (path(["dex", "hive", "sellOrders"]), Shape::Subtree),
    ];
    paths.extend(
        ["balances", "contract", "feed", "runners", "spk", "stats"]
            .map(|name| (path([name]), Shape::Subtree)),
    );
    paths.extend(STATISTICS.map(|name| (path(["stats", name]), Shape::Leaf)));
    paths
}

fn account_paths(name: &str) -> [(Path, Shape); 5] {
    [
        (path(["balances", name]), Shape::Leaf),
        (path(["spk", name]), Shape::Leaf),
        (path(["runners", name]), Shape::Subtree),
        (path(["runners", name, "g"]), Shape::Leaf),
        (path(["contract", name]), Shape::Subtree),
    ]
}

fn leaves_below(state: &MemoryState, at: &[&str]) -> impl Iterator<Item = (Vec<String>, JsonValue)> {
    let key = PathKey::from(&Path(at.iter().map(|segment| (*segment).to_owned()).collect()));
    let Ok(leaves) = state.leaves_at_or_below(&key);
    leaves
        .into_iter()
        .filter_map(|(key, leaf)| Some((key.to_path().ok()?.0, leaf.into())))
}

/// The paths of `depth` segments below a path.
fn entries_below(state: &MemoryState, at: &[&str], depth: usize) -> VecDeque<Path> {
    let mut entries = VecDeque::new();
    for (mut segments, _) in leaves_below(state, at) {
        segments.truncate(depth);
        let entry = Path(segments);
        if entry.0.len() == depth && entries.back() != Some(&entry) {
            entries.push_back(entry);
        }
    }
    entries
}

fn path<const LENGTH: usize>(segments: [&str; LENGTH]) -> Path {
    Path(segments.map(str::to_owned).to_vec())
}

fn text(text: &str) -> JsonValue {
    JsonValue::String(text.to_owned())
}

#[allow(clippy::cast_precision_loss, reason = "every number of the state is a double")]
fn count(number: u64) -> JsonValue {
    JsonValue::Number(number as f64)
}

/// A balance as it stands in a state; what is none counts as 0.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a double saturates"
)]
fn whole(value: &JsonValue) -> u64 {
    match value {
        JsonValue::Number(number) => (*number as u64).min(1 << 50),
        _ => 0,
    }
}

/// An object whose members are given in order.
fn object<const LENGTH: usize>(members: [(&str, JsonValue); LENGTH]) -> JsonValue {
    JsonValue::object(members.map(|(name, value)| (name.to_owned(), value)).to_vec())
}
