//! Requests that cannot be, and those of an older node.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::ALONE;
use super::observe::check_store;
use super::peer::bomb;
use super::world::World;
use crate::common::TestNode;
use reqwest::Body;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};

/// Sends a body as JSON, in whatever coding.
pub(crate) async fn post(
    node: &TestNode,
    path: &str,
    coding: Option<&str>,
    body: impl Into<Body>,
) -> (u16, String) {
    let mut request = Client::new()
        .post(format!("{}{path}", node.url()))
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    if let Some(coding) = coding {
        request = request.header(CONTENT_ENCODING, coding);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// An error is a short object that says what is wrong.
pub(crate) fn assert_refused(what: &str, expected: &[u16], (status, body): &(u16, String)) {
    assert!(expected.contains(status), "{what}: {status} {body}");
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{what}: {error}: {body}"));
    let error = answer["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{what}: {body}"));
    assert!((3..1_000).contains(&error.len()), "{what}: {body}");
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn bad_requests_get_a_clear_error_and_change_nothing() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let node = &world.honest;
    let before = node.running.status().borrow().have.clone();

    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: Vec<(&str, &[u16], Vec<u8>)> = vec![
        ("empty", &[400], vec![]),
        ("truncated", &[400], br#"{"gaps":[{"start":1,"#.to_vec()),
        ("oversized", &[413], vec![b' '; (1 << 20) + 1]),
        ("nested", &[400], nested.clone().into_bytes()),
        (
            "nested inside",
            &[400],
            format!(r#"{{"gaps":{nested},"nodes":{nested},"peerId":{nested}}}"#).into_bytes(),
        ),
        (
            "wrong type",
            &[400],
            br#"{"gaps":7,"nodes":"all","peerId":[],"url":{}}"#.to_vec(),
        ),
        (
            "wrong type inside",
            &[400],
            br#"{"gaps":["all"],"nodes":[7],"peerId":7,"url":7}"#.to_vec(),
        ),
        (
            "not utf-8",
            &[400],
            b"{\"gaps\":\"\xFF\",\"nodes\":\"\xFE\",\"peerId\":\"\xFF\"}".to_vec(),
        ),
        ("null", &[400], b"null".to_vec()),
    ];
    for path in ["/api/sync/sync-gaps", "/api/sync/discover", "/api/sync/peers"] {
        for (what, expected, body) in &bodies {
            let answer = post(node, path, None, body.clone()).await;
            assert_refused(&format!("{path}: {what}"), expected, &answer);
        }
        for coding in ["zstd", "gzip", "br", "deflate"] {
            let answer = post(
                node,
                path,
                Some(coding),
                bomb(br#"{"gaps":[],"nodes":[],"x":""#, b' '),
            )
            .await;
            assert_refused(&format!("{path}: {coding} bomb"), &[400, 413, 415], &answer);
        }
    }
    let gaps = [
        ("end below start", json!([{"start": 9, "end": 1}])),
        ("negative", json!([{"start": -1, "end": 1}])),
        ("beyond numbers", json!([{"start": 1, "end": 1e300}])),
        (
            "too many",
            (0..20_000).map(|at| json!({"start": at, "end": at})).collect(),
        ),
    ];
    for (what, gaps) in gaps {
        let body = json!({"gaps": gaps}).to_string();
        let answer = post(node, "/api/sync/sync-gaps", None, body).await;
        assert_refused(what, &[400], &answer);
    }
    // Gaps that overlap are one gap, and there is none here; nor is one at block 0 or 10^12.
    let overlapping: Vec<_> = (0..10_000)
        .map(|at| json!({"start": world.start_block().get() + at % 400, "end": world.head()}))
        .collect();
    for gaps in [
        json!(overlapping),
        json!([{"start": 0, "end": 0}]),
        json!([{"start": 1_000_000_000_000_u64, "end": 1_000_000_000_001_u64}]),
    ] {
        let (status, answer) = post(
            node,
            "/api/sync/sync-gaps",
            None,
            json!({"gaps": gaps}).to_string(),
        )
        .await;
        let nothing = json!({"totalGaps": 0, "syncedBlocks": 0, "failedBlocks": 0, "peers": {}});
        let expected = json!({"success": true, "results": nothing});
        assert_eq!((status, serde_json::from_str(&answer).unwrap()), (200, expected));
    }

    let (start, head) = (world.start_block(), world.head());
    let far = 1_000_000_000_000_u64;
    let calls: Vec<(Method, String, &[u16])> = vec![
        (
            Method::GET,
            format!("/api/sync/gaps?from={head}&to={start}"),
            &[400],
        ),
        (Method::GET, "/api/sync/gaps?from=-1&to=5".to_owned(), &[400]),
        (
            Method::GET,
            format!("/api/sync/blocks?from={head}&to={start}"),
            &[400],
        ),
        (Method::GET, "/api/sync/blocks?from=0&to=0".to_owned(), &[404]),
        (
            Method::GET,
            format!("/api/sync/blocks?from={start}&to={far}"),
            &[400],
        ),
        (Method::GET, "/api/sync/blocks?from=-1&to=5".to_owned(), &[400]),
        (Method::GET, "/api/sync/blocks".to_owned(), &[400]),
        (
            Method::GET,
            format!("/api/sync/anchors?from={head}&to={start}"),
            &[400],
        ),
        (
            Method::GET,
            format!("/api/checkpoints?from={head}&to={start}"),
            &[400],
        ),
        (Method::GET, "/api/checkpoints/Qm".to_owned(), &[400, 404]),
        (Method::GET, "/api/query/block/0/full".to_owned(), &[404]),
        (Method::GET, "/api/query/block/-1/full".to_owned(), &[400]),
        (Method::GET, format!("/api/query/block/{far}/full"), &[404]),
        (
            Method::GET,
            "/api/query/block/9999999999999999999999/full".to_owned(),
            &[400],
        ),
        (Method::GET, "/api/sync/hash/0".to_owned(), &[404]),
        (Method::GET, format!("/api/sync/hash/{far}"), &[404]),
        (Method::GET, "/api/sync/consensus/0".to_owned(), &[404]),
        (Method::GET, "/api/sync/consensus/-1".to_owned(), &[400]),
        (Method::POST, "/api/sync/sync-from/-1".to_owned(), &[400]),
        (Method::GET, "/api/query/state/%FF".to_owned(), &[400]),
    ];
    for (method, path, expected) in calls {
        let answer = Client::new()
            .request(method, format!("{}{path}", node.url()))
            .send()
            .await
            .unwrap();
        let answer = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_refused(&path, expected, &answer);
    }
    for block in [0, far] {
        let answer = post(node, &format!("/api/sync/sync-from/{block}"), None, "").await;
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    assert_eq!(node.running.status().borrow().have, before);
    let directory = world.directory("honest");
    world.honest.stop().await;
    assert_eq!(check_store(&directory, &world.chain).await, Some(head));
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn every_call_has_the_shape_of_the_javascript_honeygraph() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let (start, head) = (world.start_block(), world.head());
    let shapes: [(String, &[&str]); 8] = [
        (
            "/api/sync/status".to_owned(),
            &["isSyncing", "lastSyncBlock", "peers"],
        ),
        (
            format!("/api/sync/gaps?from={start}&to={head}"),
            &["fromBlock", "toBlock", "gaps", "totalMissing"],
        ),
        ("/api/query/head".to_owned(), &["head", "fork"]),
        (
            format!("/api/query/block/{head}/full"),
            &[
                "blockNum",
                "blockHash",
                "previousHash",
                "timestamp",
                "forkId",
                "isFinalized",
                "operations",
                "peerId",
            ],
        ),
        (
            "/api/query/block/1/full".to_owned(),
            &["error", "blockNum", "fork"],
        ),
        (format!("/api/sync/consensus/{head}"), &["blockNum", "consensus"]),
        ("/api/sync/consensus/1".to_owned(), &["error", "blockNum"]),
        ("/health".to_owned(), &[]),
    ];
    for (path, names) in shapes {
        let answer = reqwest::get(format!("{}{path}", world.honest.url()))
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        for name in names {
            assert!(answer.get(name).is_some(), "{path}: {name} in {answer}");
        }
    }
    for path in ["/api/sync/peers", "/api/honeygraph-peers"] {
        let answer = reqwest::get(format!("{}{path}", world.honest.url()))
            .await
            .unwrap();
        assert!(answer.json::<Value>().await.unwrap().is_array(), "{path}");
    }
    let numbers = world
        .chain
        .iter()
        .map(|block| (block.block.number(), block.block.block()));
    let (number, block) = numbers
        .rev()
        .find(|(_, block)| block.operations.as_slice().len() > 1)
        .unwrap();
    let url = format!("{}/api/query/block/{number}/full", world.honest.url());
    let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    for (index, operation) in block.operations.as_slice().iter().enumerate() {
        let shape = &answer["operations"][index];
        assert_eq!(shape["index"], json!(index));
        assert_eq!(shape["reverted"], json!(false));
        let names = ["type", "timestamp"].into_iter();
        for name in names
            .chain(operation.path().map(|_| "path"))
            .chain(operation.data().map(|_| "data"))
        {
            assert!(shape.get(name).is_some(), "{name} in {shape}");
        }
    }
    let posts = [
        (
            "/api/sync/peers",
            json!({"peerId": "one", "url": "http://one.invalid:3030"}),
            "peerId",
        ),
        ("/api/sync/discover", json!({"nodes": []}), "totalPeers"),
        (
            "/api/sync/sync-gaps",
            json!({"gaps": [], "targetFork": "main"}),
            "results",
        ),
    ];
    for (path, body, name) in posts {
        let answer = Client::new()
            .post(format!("{}{path}", world.honest.url()))
            .json(&body)
            .send()
            .await;
        let answer: Value = answer.unwrap().json().await.unwrap();
        assert_eq!(answer["success"], json!(true), "{path}: {answer}");
        assert!(answer.get(name).is_some(), "{path}: {answer}");
    }
    let url = format!("{}/api/sync/sync-from/{start}", world.honest.url());
    let answer: Value = Client::new()
        .post(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer, json!({"success": true, "message": "No gaps detected"}));
    world.honest.stop().await;
}
