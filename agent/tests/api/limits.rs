//! Requests a second, by address and by peer.

use futures_util::future::join_all;
use reqwest::{Client, Response};

use crate::common::{Network, TestNode};

/// Requests at once, of which a limit of one a second lets the first through.
const AT_ONCE: usize = 20;

/// Asks for the health of a node, as a peer of this name or as nobody.
async fn ask(client: &Client, node: &TestNode, peer: Option<&str>) -> Response {
    let request = client.get(format!("{}/health", node.url()));
    let request = match peer {
        Some(peer) => request.header("x-honeygraph-peer", peer),
        None => request,
    };
    request.send().await.unwrap()
}

/// How many of many questions at once are answered; the others are told to wait a second.
async fn answered_of_many(client: &Client, node: &TestNode, peer: Option<&str>) -> usize {
    let mut answered = 0;
    for answer in join_all((0..AT_ONCE).map(|_| ask(client, node, peer))).await {
        if answer.status() == 200 {
            answered += 1;
            continue;
        }
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["retry-after"], "1");
        let error = answer.text().await.unwrap();
        assert!(error.contains(r#"{"error":"too many requests"#), "{error}");
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_asks_too_often_is_told_to_wait_whatever_it_calls_itself() {
    let network = Network::start();
    let node = network.node("node", &["--limit-rate-per-address", "1"]).await;
    let client = Client::new();
    for peer in [None, Some("one"), Some("other")] {
        let answered = answered_of_many(&client, &node, peer).await;
        assert!(answered < AT_ONCE, "{peer:?}: {answered}");
    }
    // Probes and metrics have no limit.
    let addresses = &node.running.addresses;
    let probe = format!("http://{}/livez", addresses.metrics);
    for answer in join_all((0..AT_ONCE).map(|_| client.get(&probe).send())).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    let metrics = client.get(format!("http://{}/metrics", addresses.metrics));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let counted = metrics
        .lines()
        .find(|line| line.starts_with("honeygraph_http_rate_limited_total"));
    assert_ne!(counted.unwrap().rsplit(' ').next().unwrap(), "0");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_too_often_takes_nothing_from_others_at_its_address() {
    let network = Network::start();
    let flags = ["--limit-rate-per-peer", "1", "--limit-rate-per-address", "100000"];
    let node = network.node("node", &flags).await;
    let client = Client::new();
    let answered = answered_of_many(&client, &node, Some("greedy")).await;
    assert!((1..AT_ONCE).contains(&answered), "{answered}");
    assert_eq!(ask(&client, &node, Some("modest")).await.status(), 200);
    assert_eq!(answered_of_many(&client, &node, None).await, AT_ONCE);
    node.stop().await;
}
