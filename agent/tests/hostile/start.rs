//! Starting with nothing, while those who have the documents do not answer or are not the configured ones.

use super::ALONE;
use super::fault::Fault;
use super::observe::{check_store, wait_to_see};
use super::peer::ScriptedPeer;
use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_the_operator_named_is_waited_for() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let anchor = world.last_anchor();
    let trusted = format!("{}:{}", anchor.block_num, anchor.state_hash);
    let gateway = Fault::NoDocuments(String::new());
    let gateway = ScriptedPeer::start(world.chain.clone(), gateway, None).await;
    let (gate, gateway_url) = (world.gate().await, gateway.url());
    let flags = ["--trusted-checkpoint", &trusted, "--ipfs-gateways", &gateway_url];
    let node = world.node("waits", &[gate.url()], &[gate.url()], &flags).await;
    wait_to_see(&node, "the gateway to be asked again", |_| {
        gateway.asked("documents") > 1
    })
    .await;
    gate.open();
    let status = node.wait_for("a start", |status| status.position.is_some()).await;
    let height = status.position.unwrap().state_height;
    assert!(
        height >= anchor.block_num,
        "it started from the genesis: {height}"
    );
    node.wait_complete(world.start_block(), world.head()).await;
    node.stop().await;
    let highest = check_store(&world.directory("waits"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_from_peers_that_only_others_know_as_well() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let honest = world.honest.url();
    let voter = Fault::NoDocuments(honest.clone());
    let voter = ScriptedPeer::start(world.chain.clone(), voter, None).await;
    // An address at home is connected to only because the configuration names it.
    let flags = ["--honeycomb-nodes", &honest, "--discovery-interval-ms", "1000"];
    let node = world
        .node("discovered", &[voter.url()], &[voter.url()], &flags)
        .await;
    let status = node.wait_for("a start", |status| status.position.is_some()).await;
    let height = status.position.unwrap().state_height;
    assert!(
        height >= world.last_anchor().block_num,
        "it started from the genesis: {height}"
    );
    assert!(voter.asked("documents") > 0);
    node.stop().await;
}
