//! Long lists of peers, and whose lists are asked for.

use honeygraph_agent::wire::shapes::MAX_LISTED_PEERS;
use serde_json::{Value, json};

use super::ALONE;
use super::fault::Fault;
use super::observe::{look, wait_to_see};
use super::peer::ScriptedPeer;
use super::requests::post;
use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_peers_are_cut_and_those_at_home_never_dialled() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let at_home = ScriptedPeer::start(world.chain.clone(), Fault::Nothing, None).await;
    let giver = ScriptedPeer::start(world.chain.clone(), Fault::ManyPeers, None).await;
    let flags = ["--peers-max", "500", "--discovery-interval-ms", "1000"];
    let node = world.node("many", &[giver.url()], &[], &flags).await;
    let nodes: Vec<_> = (0..10_000)
        .map(|at| match at {
            0 => json!({"id": "at-home", "url": at_home.url()}),
            at => json!({"id": format!("peer-{at}"), "url": format!("http://[::ffff:127.0.0.1]:{at}")}),
        })
        .collect();
    let (status, answer) = post(
        &node,
        "/api/sync/discover",
        None,
        json!({"nodes": nodes}).to_string(),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["totalPeers"].as_u64().unwrap() <= 501, "{answer}");
    wait_to_see(&node, "the list to be asked for", |_| giver.asked("peers") > 1).await;
    node.wait_complete(world.start_block(), world.head()).await;
    let seen = look(&node).await;
    let listed = seen.admin["sync"]["peers"].as_array().unwrap().len();
    assert!(listed <= MAX_LISTED_PEERS.min(501), "{listed}");
    let mut alive = seen.admin["peers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|peer| peer["isAlive"] == true);
    assert_eq!(alive.next().unwrap()["url"], json!(giver.url()));
    assert!(alive.next().is_none());
    assert!(at_home.asked_nothing());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_peer_is_asked_for_its_list_in_turn() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let mut peers = Vec::new();
    for _ in 0..20 {
        peers.push(ScriptedPeer::start(world.chain.clone(), Fault::Nothing, None).await);
    }
    let urls: Vec<_> = peers.iter().map(ScriptedPeer::url).collect();
    let flags = ["--discovery-interval-ms", "1000"];
    let node = world.node("in turn", &urls, &[], &flags).await;
    wait_to_see(&node, "all lists to be asked for", |_| {
        peers.iter().all(|peer| peer.asked("peers") > 0)
    })
    .await;
    node.stop().await;
}
