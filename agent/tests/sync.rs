//! Nodes over real sockets: a honeycomb feeds one, the others heal from each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{TestNode, feed, first_block, genesis_file, honeycomb, reference_hash};
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::BlockRange;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_a_honeycomb_and_another_fills_its_gap_from_it() {
    let home = tempfile::tempdir().unwrap();
    let honeycomb = honeycomb();
    let genesis = genesis_file(&honeycomb, home.path());
    let first = TestNode::start(&home.path().join("first"), &["--genesis-file", &genesis]).await;
    feed(&honeycomb, &first);
    honeycomb.produce(1_250).unwrap();
    // The last block is complete once something of the next one has come.
    let head = honeycomb.head().number.previous().unwrap();
    let start = first_block(&honeycomb);
    let status = first.wait_complete(start, head).await;
    let position = status.position.unwrap();
    assert_eq!(position.checkpoints.deltas.len(), 9);

    let second = TestNode::start(
        &home.path().join("second"),
        &["--genesis-file", &genesis, "--peers", &first.url()],
    )
    .await;
    let status = second.wait_complete(start, head).await;
    let position = status.position.unwrap();
    assert_eq!(
        position.state_block_hash,
        Some(reference_hash(&honeycomb, position.state_height))
    );
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_nothing_starts_from_a_checkpoint_and_backfills_history() {
    let home = tempfile::tempdir().unwrap();
    let honeycomb = honeycomb();
    let genesis = genesis_file(&honeycomb, home.path());
    let first = TestNode::start(&home.path().join("first"), &["--genesis-file", &genesis]).await;
    feed(&honeycomb, &first);
    honeycomb.produce(1_250).unwrap();
    let head = honeycomb.head().number.previous().unwrap();
    let start = first_block(&honeycomb);
    first.wait_complete(start, head).await;

    let url = first.url();
    let empty = TestNode::start(&home.path().join("empty"), &["--peers", &url, "--voters", &url]).await;
    let status = empty.wait_complete(start, head).await;
    let position = status.position.unwrap();
    assert_eq!(position.history_start, start);
    assert_eq!(
        position.state_block_hash,
        Some(reference_hash(&honeycomb, position.state_height))
    );
    let irreversible = empty.wait_for("finality", |status| {
        status
            .position
            .as_ref()
            .is_some_and(|position| position.irreversible.is_some())
    });
    assert!(irreversible.await.position.unwrap().irreversible_block() >= Some(head.saturating_sub(100)));
    first.stop().await;
    empty.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_and_an_outage_are_healed_from_several_peers() {
    let home = tempfile::tempdir().unwrap();
    let honeycomb = honeycomb();
    let genesis = genesis_file(&honeycomb, home.path());
    let start = first_block(&honeycomb);
    let mut feeds = Vec::new();
    for name in ["a", "b"] {
        let node = TestNode::start(&home.path().join(name), &["--genesis-file", &genesis]).await;
        feed(&honeycomb, &node);
        feeds.push(node);
    }
    honeycomb.produce(400).unwrap();
    let peers = feeds.iter().map(TestNode::url).collect::<Vec<_>>().join(",");
    let flags = ["--genesis-file", &genesis, "--peers", &peers, "--voters", &peers];
    let directory = home.path().join("broken");
    let node = TestNode::start(&directory, &flags).await;
    node.wait_complete(start, honeycomb.head().number.previous().unwrap())
        .await;
    node.stop().await;

    // While it is away the chain grows, and its disk loses blocks.
    honeycomb.produce(600).unwrap();
    let head = honeycomb.head().number.previous().unwrap();
    for feed in &feeds {
        feed.wait_complete(start, head).await;
    }
    {
        let (_, mut writer, _) = Store::open(&directory.join("data"), &StoreSettings::default()).unwrap();
        let mut transaction = writer.begin();
        for (from, to) in [(10, 20), (95, 250), (320, 321)] {
            let range = BlockRange::new(start.saturating_add(from), start.saturating_add(to)).unwrap();
            transaction.remove_blocks(range);
        }
        transaction.commit().unwrap();
    }
    let node = TestNode::start(&directory, &flags).await;
    let status = node.wait_complete(start, head).await;
    let position = status.position.unwrap();
    assert_eq!(
        position.state_block_hash,
        Some(reference_hash(&honeycomb, position.state_height))
    );
    node.stop().await;
    for feed in feeds {
        feed.stop().await;
    }
}
