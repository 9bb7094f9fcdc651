//! Nodes over real sockets: a honeycomb feeds one, the others heal from each other.

mod common;

use common::{TestNode, feed, first_block, genesis_file, honeycomb, reference_hash};

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
