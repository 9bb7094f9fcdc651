//! What people ask, and how long an answer takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use honeygraph_agent::dgraph::client::{DgraphClient, Query, Reading};
use honeygraph_honeycomb::reference_chain::ChainBlock;

use super::layout::{Layout, account_of, path_of};

/// Times that each question is asked.
const TIMES: usize = 50;

/// Asks everything, and prints the median of each.
pub(crate) async fn ask(client: &DgraphClient, layout: &Layout, blocks: &[Arc<ChainBlock>]) {
    let middle = &blocks[blocks.len() / 2];
    let number = middle.block.block().number.to_string();
    let hash = middle.block.hash().to_string();
    let (path, account) = busiest(blocks);
    let leaf = newest_leaf(blocks, layout.has_rows());
    let operations = if layout.has_operation_nodes() {
        ["eq(op.path, $v)", "eq(op.account, $v)"].map(|of| (of, "op.blockNum op.index op.type op.data"))
    } else {
        ["eq(paths, $v)", "eq(accounts, $v)"].map(|of| (of, "blockNum operations"))
    };
    let [by_path, by_account] = operations;
    let asked = [
        (
            "block by number",
            "eq(blockNum, $v)",
            "",
            "blockHash previousHash timestamp",
            &number,
        ),
        (
            "block by hash",
            "eq(blockHash, $v)",
            "",
            "blockNum previousHash timestamp",
            &hash,
        ),
        (
            "latest 10 blocks",
            "ge(blockNum, $v)",
            ", orderdesc: blockNum, first: 10",
            "blockHash",
            &number,
        ),
        (
            "latest 10 operations of a busy path",
            by_path.0,
            ", first: -10",
            by_path.1,
            &path,
        ),
        ("all operations of a busy path", by_path.0, "", by_path.1, &path),
        (
            "latest 10 operations of a busy account",
            by_account.0,
            ", first: -10",
            by_account.1,
            &account,
        ),
        ("value at a path", "eq(state.path, $v)", "", "state.value", &leaf),
        (
            "values below a prefix",
            "between(state.path, \"dex/hive/\", \"dex/hive0\")",
            "",
            "state.path state.value",
            &leaf,
        ),
    ];
    println!("\n| question of `{}` | found | ms |\n|---|---|---|", layout.name);
    for (name, function, order, fields, value) in asked {
        let kind = if function.contains("blockNum") {
            "int"
        } else {
            "string"
        };
        let declared = if function.contains("$v") {
            format!("query q($v: {kind}) ")
        } else {
            String::new()
        };
        let mut query = Query::new(format!(
            "{declared}{{ q(func: {function}{order}) {{ {fields} }} }}"
        ));
        if !declared.is_empty() {
            query = query.with("$v", value.as_str());
        }
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..TIMES {
            let began = Instant::now();
            let answer = client.query(&query, Reading::BestEffort).await.unwrap();
            times.push(began.elapsed());
            let answer: serde_json::Value = answer.read().unwrap();
            found = answer["q"].as_array().map_or(0, Vec::len);
        }
        times.sort();
        println!(
            "| {name} | {found} | {:.2} |",
            times[TIMES / 2].as_secs_f64() * 1_000.0
        );
    }
}

/// A leaf deep in the state that the last blocks made, or the object that holds it.
fn newest_leaf(blocks: &[Arc<ChainBlock>], object: bool) -> String {
    let mut changes = blocks.iter().rev().flat_map(|block| &block.effect.changes);
    let mut path = changes
        .find_map(|change| {
            let path = change.key.to_path().unwrap();
            let made = change.before.is_none() && change.after.is_some();
            (made && path.0.len() > 2).then_some(path)
        })
        .unwrap();
    if object {
        path.0.pop();
    }
    path.to_string()
}

/// The path and the account with the most blocks.
fn busiest(blocks: &[Arc<ChainBlock>]) -> (String, String) {
    let (mut paths, mut accounts) = (HashMap::new(), HashMap::new());
    for block in blocks {
        for path in block
            .block
            .block()
            .operations
            .as_slice()
            .iter()
            .filter_map(path_of)
        {
            *paths.entry(path.to_string()).or_insert(0) += 1;
            if let Some(account) = account_of(path) {
                *accounts.entry(account).or_insert(0) += 1;
            }
        }
    }
    let most = |counts: HashMap<String, i32>| counts.into_iter().max_by_key(|(_, count)| *count).unwrap().0;
    (most(paths), most(accounts))
}
