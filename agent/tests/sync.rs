//! Nodes over real sockets: a honeycomb feeds one, the others heal from each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Network, TestNode};
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::BlockRange;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_a_honeycomb_and_another_fills_its_gap_from_it() {
    let network = Network::start();
    let first = network.fed_node("first", &[]).await;
    network.produce(1_250);
    let position = network.wait_complete(&first).await;
    assert_eq!(position.checkpoints.deltas.len(), 9);

    let second = network.node("second", &["--peers", &first.url()]).await;
    network.wait_complete(&second).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_nothing_starts_from_a_checkpoint_and_backfills_history() {
    let network = Network::start();
    let first = network.fed_node("first", &[]).await;
    network.produce(1_250);
    network.wait_complete(&first).await;

    let url = first.url();
    let empty = network
        .empty_node("empty", &["--peers", &url, "--voters", &url])
        .await;
    let position = network.wait_complete(&empty).await;
    let (start, head) = (network.first_block(), network.head());
    assert_eq!(position.history_start, start);
    let irreversible = empty.wait_for("finality", |status| {
        status
            .position
            .as_ref()
            .is_some_and(|position| position.irreversible_block() >= Some(head.saturating_sub(100)))
    });
    irreversible.await;
    // The voters are asked: about the covering anchor below what is irreversible, about the hash above it.
    for block in [start, head] {
        let url = format!("{}/api/sync/consensus/{block}", empty.url());
        let answer: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let hash = network
            .honeycomb
            .read(|chain| chain.block(block).unwrap().block.hash().to_string());
        assert_eq!(answer["consensus"]["blockHash"], hash, "{block}: {answer}");
    }
    first.stop().await;
    empty.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_and_an_outage_are_healed_from_several_peers() {
    let network = Network::start();
    let feeds = [network.fed_node("a", &[]).await, network.fed_node("b", &[]).await];
    network.produce(400);
    let peers = feeds.iter().map(TestNode::url).collect::<Vec<_>>().join(",");
    let flags = ["--peers", &peers, "--voters", &peers];
    let node = network.node("broken", &flags).await;
    network.wait_complete(&node).await;
    node.stop().await;

    // While it is away the chain grows, and its disk loses blocks.
    network.produce(600);
    for feed in &feeds {
        network.wait_complete(feed).await;
    }
    {
        let data = network.directory("broken").join("data");
        let (_, mut writer, _) = Store::open(&data, &StoreSettings::default()).unwrap();
        let mut transaction = writer.begin();
        let start = network.first_block();
        for (from, to) in [(10, 20), (95, 250), (320, 321)] {
            let range = BlockRange::new(start.saturating_add(from), start.saturating_add(to)).unwrap();
            transaction.remove_blocks(range);
        }
        transaction.commit().unwrap();
    }
    let node = network.node("broken", &flags).await;
    network.wait_complete(&node).await;
    node.stop().await;
    for feed in feeds {
        feed.stop().await;
    }
}
