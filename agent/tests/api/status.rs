//! What a node says of itself while it works.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::common::Network;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_a_honeycomb_feeds_never_says_that_it_is_starved() {
    let network = Network::start();
    // Commits that wait keep the state behind what was sent, as they do on a busy machine.
    let node = network.fed_node("fed", &["--commit-interval-ms", "200"]).await;
    network.produce(10);
    node.wait_complete(network.first_block(), network.head()).await;
    let mut modes = BTreeSet::new();
    for _ in 0..300 {
        network.produce(1);
        let status = reqwest::get(format!("{}/api/sync/status", node.url())).await;
        let status: Value = status.unwrap().json().await.unwrap();
        modes.insert(status["mode"].as_str().unwrap().to_owned());
    }
    // Where this machine is slow, the honeycomb is more than a period ahead now and then.
    assert!(modes.contains("follow"), "{modes:?}");
    assert!(
        modes.is_subset(&["fill", "follow"].map(str::to_owned).into()),
        "{modes:?}"
    );
    network.wait_complete(&node).await;
    node.stop().await;
}
