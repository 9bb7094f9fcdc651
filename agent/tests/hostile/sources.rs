//! Honeycombs that send what cannot be.

use futures_util::{SinkExt, StreamExt};
use honeygraph_chain::{BlockNumber, ContentId, Operation};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use super::ALONE;
use super::fault::with_operation;
use super::observe::{check_store, wait_to_see};
use super::world::World;
use crate::common::{TestNode, feed};

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
        json!({"type": "checkpoint", "blockNum": 1_000_000_000_000_u64, "hash": world.last_anchor().state_hash})
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

/// A honeycomb that sends the honest chain up to a block, in which it puts a leaf where a subtree stands, and then
/// stays. Aborting the task ends it.
async fn send_leaf_over_subtree(world: &World, node: &TestNode, at: BlockNumber) -> JoinHandle<()> {
    let genesis = world.chain.first().unwrap().block.previous_hash();
    let mut texts =
        vec![json!({"type": "identify", "source": "honeycomb", "version": "1", "token": "DLUX"}).to_string()];
    for served in world
        .chain
        .iter()
        .take_while(|served| served.block.number() <= at)
    {
        let number = served.block.number();
        let mut block = served.block.clone();
        if number == at {
            block = with_operation(&block, &["balances"], json!(1));
        }
        let operations = block.block().operations.as_slice();
        texts.extend(
            (served.first_index..)
                .zip(operations)
                .map(|(index, operation)| frame(index, number, operation, genesis)),
        );
        if number == at {
            // Something of the next block: this one is complete.
            let index = served.first_index + operations.len() as u64;
            texts.push(frame(index, number.next(), &Operation::WriteMarker, genesis));
        }
    }
    let (socket, _) = tokio_tungstenite::connect_async(node.ingest_url()).await.unwrap();
    let (mut to_node, mut from_node) = socket.split();
    for text in texts {
        to_node.send(Message::text(text)).await.unwrap();
    }
    tokio::spawn(async move {
        let _stays = to_node;
        while from_node.next().await.is_some() {}
    })
}

/// An operation as honeycombs send it.
fn frame(index: u64, block: BlockNumber, operation: &Operation, genesis: ContentId) -> String {
    let mut text = json!({"type": operation.kind(), "index": index, "blockNum": block, "forkHash": genesis,
        "prevCheckpointHash": ""});
    if let Some(path) = operation.path() {
        text["path"] = json!(path);
    }
    if let Some(data) = operation.data() {
        text["data"] = json!(data);
    }
    text.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_honeycomb_with_a_leaf_over_a_subtree_is_set_aside_and_others_fill_the_node() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let at = world.at(50);
    let (voter, gate) = (world.voter().await, world.gate().await);
    let voters = [voter.url(), "loopback".to_owned()];
    let peers = [voter.url(), gate.url()];
    let node = world.node("aside", &peers, &voters, &["--init-chain"]).await;
    let honeycomb = send_leaf_over_subtree(&world, &node, at).await;
    let seen = wait_to_see(&node, "the honeycomb to be set aside", |seen| {
        seen.admin["sources"][0]["setAside"].is_string()
    })
    .await;
    let reason = seen.admin["sources"][0]["setAside"].as_str().unwrap();
    assert!(
        reason.contains("balances") && reason.contains(&at.to_string()),
        "{reason}"
    );
    // What came before is kept, and nothing of the block is.
    let position = &seen.admin["position"];
    assert_eq!(position["stateHeight"], json!(at.previous()));
    assert_eq!(position["halted"], Value::Null);
    assert_eq!(seen.admin["counters"]["sourcesSetAside"], json!(1));

    gate.open();
    node.wait_complete(world.start_block(), world.head()).await;
    honeycomb.abort();
    node.stop().await;
    let highest = check_store(&world.directory("aside"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_only_voter_puts_a_leaf_over_a_subtree_halts_and_serves() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let at = world.at(50);
    let node = world.node("halted", &[], &[], &["--init-chain"]).await;
    let honeycomb = send_leaf_over_subtree(&world, &node, at).await;
    let seen = wait_to_see(&node, "the node to halt", |seen| {
        seen.admin["position"]["halted"] != Value::Null && seen.admin["sync"]["mode"] == "halted"
    })
    .await;
    let position = &seen.admin["position"];
    assert!(
        position["halted"].to_string().contains("balances"),
        "{position:#}"
    );
    let last = at.previous().unwrap();
    assert_eq!(position["stateHeight"], json!(last));
    let block = format!("{}/api/query/block/{last}/full", node.url());
    assert_eq!(reqwest::get(block).await.unwrap().status(), 200);
    honeycomb.abort();
    node.stop().await;
    assert_eq!(
        check_store(&world.directory("halted"), &world.chain).await,
        Some(last)
    );
}
