//! What would take memory.

use futures_util::{StreamExt, stream};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Client};

use super::ALONE;
use super::fault::{CapabilitiesFault, Fault, OlderFault};
use super::memory;
use super::observe::{check_store, wait_to_see};
use super::peer::{ScriptedPeer, bomb};
use super::requests::{assert_refused, post};
use super::world::World;
use crate::common::TestNode;

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_whatever_is_sent() {
    let _measured = ALONE.write().await;
    let world = World::start().await;
    let voter = world.voter().await;
    let mut hostile = Vec::new();
    for fault in [
        Fault::Bomb,
        Fault::HugeFrame,
        Fault::Capabilities(CapabilitiesFault::Bomb),
        Fault::Capabilities(CapabilitiesFault::DeeplyNested),
    ] {
        hostile.push(ScriptedPeer::start(world.chain.clone(), fault, Some(&voter)).await);
    }
    let gate = world.gate().await;
    let mut peers: Vec<_> = hostile.iter().map(ScriptedPeer::url).collect();
    peers.extend([voter.url(), gate.url()]);

    let before = memory::start_to_measure();
    let node = world
        .node("bombs", &peers, &[voter.url()], &["--init-chain"])
        .await;
    let bombs = &hostile[0];
    wait_to_see(&node, "bombs", |seen| {
        let refused = |outcome| seen.requests(&bombs.url(), outcome);
        refused("too_large") + refused("malformed") > 1 && hostile[2].asked("capabilities") > 1
    })
    .await;
    for path in ["/api/sync/sync-gaps", "/api/sync/discover"] {
        // The node may end the connection before everything is sent, and then the answer may be lost.
        let mut answer = None;
        for _ in 0..20 {
            if answer.is_none() {
                answer = send_million_gaps(&node, path).await;
            }
        }
        assert_eq!(answer, Some(413), "{path}");
        for coding in ["zstd", "gzip"] {
            let answer = post(&node, path, Some(coding), bomb(br#"{"nodes":[],"gaps":["#, b' ')).await;
            assert_refused(coding, &[400, 413, 415], &answer);
        }
    }
    gate.open();
    node.wait_complete(world.start_block(), world.head()).await;
    let grown = memory::peak().saturating_sub(before);
    assert!(grown < memory::MOST_GROWTH, "{} MiB more", grown >> 20);
    node.stop().await;
    let highest = check_store(&world.directory("bombs"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));
}

/// Sends a million gaps in a body that does not say how long it is. Gives the status of the answer, if it came.
async fn send_million_gaps(node: &TestNode, path: &str) -> Option<u16> {
    let start = stream::iter([String::from(r#"{"nodes":[],"gaps":["#)]);
    let gaps = stream::iter((0..1_000_000).map(|at| format!(r#"{{"start":{at},"end":{at},"size":1}},"#)));
    let body = Body::wrap_stream(start.chain(gaps).map(Ok::<_, std::io::Error>));
    let sent = Client::new()
        .post(format!("{}{path}", node.url()))
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .send()
        .await;
    sent.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_held_than_requests_have_room_for() {
    let _measured = ALONE.write().await;
    let world = World::start().await;
    let voter = world.voter().await;
    for (name, fault) in [
        ("large blocks", Fault::LargeBlocks),
        ("older with large blocks", Fault::Older(OlderFault::LargeBlocks)),
    ] {
        let mut hostile = Vec::new();
        for _ in 0..4 {
            hostile.push(ScriptedPeer::start(world.chain.clone(), fault.clone(), Some(&voter)).await);
        }
        let mut peers: Vec<_> = hostile.iter().map(ScriptedPeer::url).collect();
        peers.push(voter.url());
        // Small ranges, so that all of them are asked at the same time.
        let flags = [
            "--init-chain",
            "--sync-buffer-bytes",
            "16777216",
            "--sync-range-blocks",
            "32",
        ];
        let before = memory::start_to_measure();
        let node = world.node(name, &peers, &[voter.url()], &flags).await;
        wait_to_see(&node, name, |seen| {
            hostile.iter().all(|peer| {
                let outcomes = seen.outcomes(&peer.url());
                outcomes.iter().map(|(_, count)| count).sum::<u64>() > 3
            })
        })
        .await;
        let grown = memory::peak().saturating_sub(before);
        assert!(grown < memory::MOST_GROWTH, "{name}: {} MiB more", grown >> 20);
        node.stop().await;
    }
    world.honest.stop().await;
}
