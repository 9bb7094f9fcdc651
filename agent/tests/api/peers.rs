//! Lists of peers: who gets onto them, what they say, and what a restart leaves of them.

use std::time::Instant;

use reqwest::Client;
use serde_json::{Value, json};

use crate::common::{Network, PATIENCE, TestNode};

/// Registers a peer and gives the status and the body of the answer.
async fn register(node: &TestNode, url: &str) -> (u16, Value) {
    let request = Client::new()
        .post(format!("{}/api/sync/peers", node.url()))
        .json(&json!({"peerId": "one", "url": url}));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// The peers of a node as its operator sees them, once there are so many.
async fn wait_for_peers(node: &TestNode, count: usize) -> Vec<Value> {
    let url = format!("http://{}/peers", node.running.addresses.admin);
    let started = Instant::now();
    loop {
        let peers: Vec<Value> = reqwest::get(&url).await.unwrap().json().await.unwrap();
        if peers.len() == count {
            return peers;
        }
        assert!(started.elapsed() < PATIENCE, "{peers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_never_dialled_is_not_registered() {
    let network = Network::start();
    let named = "http://127.0.0.1:1";
    let node = network.node("node", &["--peers", named]).await;
    for url in [
        "http://127.0.0.1:3030",
        "http://localhost:3030",
        "http://10.1.2.3",
        "http://[::ffff:192.168.0.1]:3030",
        "https://127.0.0.1:1",
    ] {
        let (status, answer) = register(&node, url).await;
        assert_eq!(status, 400, "{url}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(
            error.contains("`url`") && error.contains(url) && error.contains("PEERS"),
            "{url}: {error}"
        );
    }
    // What configuration names by exact host and port, and what may get an address.
    for url in [named, "http://one.invalid:3030"] {
        let (status, answer) = register(&node, url).await;
        assert_eq!(
            (status, &answer["success"]),
            (200, &json!(true)),
            "{url}: {answer}"
        );
    }
    let mut listed: Vec<_> = wait_for_peers(&node, 2)
        .await
        .iter()
        .map(|peer| (peer["url"].clone(), peer["source"].clone()))
        .collect();
    listed.sort_by_key(|(url, _)| url.to_string());
    assert_eq!(
        listed,
        [
            (json!(named), json!("configured")),
            (json!("http://one.invalid:3030"), json!("registered")),
        ]
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_peer_is_still_one_after_a_restart() {
    let network = Network::start();
    let flags = ["--peers", "http://127.0.0.1:1"];
    let node = network.node("node", &flags).await;
    let (status, _) = register(&node, "http://one.invalid:3030").await;
    assert_eq!(status, 200);
    node.stop().await;
    // Configuration names the other one no more, and its address is one that strangers cannot name.
    let node = network.node("node", &[]).await;
    let listed = wait_for_peers(&node, 2).await;
    let registered = listed
        .iter()
        .find(|peer| peer["url"] == "http://one.invalid:3030");
    assert_eq!(registered.unwrap()["source"], json!("registered"), "{listed:?}");
    let status: Value = reqwest::get(format!("{}/api/sync/status", node.url()))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let listed = status["peers"].as_array().unwrap();
    assert!(
        listed.iter().any(|peer| peer["source"] == "registered"),
        "{listed:?}"
    );
    node.stop().await;
}
