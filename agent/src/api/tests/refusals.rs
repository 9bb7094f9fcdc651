//! Every call, asked as it should not be: always a clear answer, never a 500.

use serde_json::json;

use super::*;

#[tokio::test]
async fn parameters_that_cannot_be_are_named() {
    let node = Fixture::new();
    for (path, parameter, value) in [
        ("/api/sync/gaps?from=-1", "from", "-1"),
        ("/api/sync/gaps?from=9&to=8", "to", "8"),
        ("/api/sync/gaps?to=9007199254740992", "to", "9007199254740992"),
        ("/api/sync/blocks?from=1&to=abc", "to", "abc"),
        ("/api/sync/blocks?from=+1&to=2", "from", " 1"),
        ("/api/sync/blocks?from=2&to=1", "to", "1"),
        ("/api/sync/blocks?from=1&to=513", "to", "513"),
        ("/api/sync/blocks?from=0&to=1000000000000", "to", "1000000000000"),
        ("/api/sync/blocks?from=1.5&to=2", "from", "1.5"),
        ("/api/sync/blocks?from=%ff&to=2", "from", "\u{fffd}"),
        ("/api/sync/anchors?from=", "from", ""),
        ("/api/checkpoints?to=1e3", "to", "1e3"),
        ("/api/checkpoints/abc", "contentId", "abc"),
        ("/api/sync/hash/-1", "block", "-1"),
        ("/api/sync/hash/0x10", "block", "0x10"),
        (
            "/api/sync/consensus/99999999999999999999999",
            "block",
            "99999999999999999999999",
        ),
        ("/api/query/block/one/full", "block", "one"),
        ("/api/query/block/%2B1/full", "block", "+1"),
        ("/api/query/state/balances?limit=0", "limit", "0"),
        ("/api/query/state/balances?limit=10001", "limit", "10001"),
        ("/api/query/state/balances?limit=-1", "limit", "-1"),
        ("/api/query/state/a%FFb", "path", "a%FFb"),
        ("/api/sync/hash/%ff", "path", "/api/sync/hash/%ff"),
        ("/api/query/block/{}/full", "block", "{}"),
    ] {
        let error = node.get(path).await.error(StatusCode::BAD_REQUEST);
        assert!(
            error.contains(&format!("parameter `{parameter}`: `{value}`")),
            "{path}: {error}"
        );
    }
    let error = node
        .get("/api/sync/blocks?from=1")
        .await
        .error(StatusCode::BAD_REQUEST);
    assert!(error.contains("parameter `to` is missing"), "{error}");
    let long = "9".repeat(5_000);
    let answer = node.get(&format!("/api/sync/hash/{long}")).await;
    assert!(answer.error(StatusCode::BAD_REQUEST).len() < 300);
}

#[tokio::test]
async fn blocks_that_are_not_here_are_not_found() {
    let node = Fixture::new();
    for number in [0, 1, 1_000_000_000_000, 9_007_199_254_740_991_u64] {
        let answer = node.get(&format!("/api/query/block/{number}/full")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(
            answer.json(),
            json!({"error": "Block not found", "blockNum": number, "fork": "main"})
        );
        let answer = node.get(&format!("/api/sync/hash/{number}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(
            answer.json(),
            json!({"error": "Block not found", "blockNum": number})
        );
        let answer = node
            .get(&format!("/api/sync/blocks?from={number}&to={number}"))
            .await;
        assert_eq!(
            answer.json(),
            json!({"error": "Block not found", "blockNum": number})
        );
    }
    let answer = node
        .get(&format!("/api/query/block/{}/full?fork=elsewhere", at(3)))
        .await;
    assert_eq!(
        answer.json(),
        json!({"error": "Block not found", "blockNum": at(3), "fork": "elsewhere"})
    );
    node.get("/api/query/head?fork=elsewhere")
        .await
        .error(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_path_that_is_not_utf_8_is_refused() {
    let node = Fixture::new();
    for path in [
        "/api/sync/hash/%FF",
        "/api/query/block/%C3%28/full",
        "/api/checkpoints/%FF",
    ] {
        node.get(path).await.error(StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_path_longer_than_any_key_is_not_found() {
    let node = Fixture::new();
    // 30,000 segments: three bytes each in a key, two in the address.
    let path = format!("/api/query/state/{}", vec!["a"; 30_000].join("/"));
    node.get(&path).await.error(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_answered_in_json() {
    let node = Fixture::new();
    for path in [
        "/",
        "/api",
        "/api/sync",
        "/api/query/block/1",
        "/api/query/state",
        "/%FF",
    ] {
        node.get(path).await.error(StatusCode::NOT_FOUND);
    }
    for (method, path) in [
        (Method::DELETE, "/health"),
        (Method::GET, "/api/sync/sync-gaps"),
        (Method::PUT, "/api/sync/peers"),
    ] {
        let answer = send(node.public(), request(method, path, None)).await;
        answer.error(StatusCode::METHOD_NOT_ALLOWED);
        assert!(!answer.header("allow").is_empty());
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_are_refused() {
    let node = Fixture::new();
    let text = |path: &str, content_type: &str, body: Vec<u8>| {
        let mut request = request(Method::POST, path, None);
        request
            .headers_mut()
            .insert("content-type", content_type.parse().unwrap());
        *request.body_mut() = Body::from(body);
        send(node.public(), request)
    };
    let json_type = "application/json";
    let deep = [b"[".repeat(50_000), b"]".repeat(10_000)].concat();
    for path in ["/api/sync/peers", "/api/sync/discover", "/api/sync/sync-gaps"] {
        for body in [
            &b""[..],
            b"{",
            b"[]",
            b"null",
            b"{\"gaps\":",
            b"\xff\xfe",
            b"{\"url\":\"\xff\"}",
            &deep,
        ] {
            text(path, json_type, body.to_vec())
                .await
                .error(StatusCode::BAD_REQUEST);
        }
        text(path, "text/plain", b"{}".to_vec())
            .await
            .error(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        text(path, json_type, vec![b' '; 70 << 10])
            .await
            .error(StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(node.sync.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn peers_and_gaps_that_cannot_be_are_named() {
    let node = Fixture::new();
    for (body, parameter) in [
        (json!({"peerId": "", "url": "http://a.example"}), "peerId"),
        (json!({"peerId": "a b", "url": "http://a.example"}), "peerId"),
        (json!({"peerId": "a", "url": "ftp://a.example"}), "url"),
        (json!({"peerId": "a", "url": "http://user:pass@a.example"}), "url"),
        (json!({"peerId": "a", "url": "/etc/passwd"}), "url"),
    ] {
        let error = node
            .post("/api/sync/peers", &body)
            .await
            .error(StatusCode::BAD_REQUEST);
        assert!(error.contains(&format!("parameter `{parameter}`")), "{error}");
    }
    for gaps in [
        json!({"gaps": [{"start": 5, "end": 4}]}),
        json!({"gaps": [{"start": -5, "end": 4}]}),
        json!({"gaps": [{"start": 1, "end": 9_007_199_254_740_992_u64}]}),
        json!({"gaps": [{"start": 1, "end": 2}], "targetFork": "other"}),
        json!({"gaps": "all"}),
    ] {
        node.post("/api/sync/sync-gaps", &gaps)
            .await
            .error(StatusCode::BAD_REQUEST);
    }
    for block in ["-1", "x", "9007199254740992"] {
        let path = format!("/api/sync/sync-from/{block}");
        node.post(&path, &json!({})).await.error(StatusCode::BAD_REQUEST);
    }
    assert_eq!(node.sync.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_list_of_a_million_gaps_is_refused_whole() {
    let mut settings = api_settings();
    settings.limits.body_bytes = 64 << 20;
    let node = Fixture::with(settings);
    let gaps: Vec<Value> = (0..1_000_000_u64)
        .map(|gap| json!({"start": 2 * gap, "end": 2 * gap}))
        .collect();
    let error = node
        .post("/api/sync/sync-gaps", &json!({"gaps": gaps}))
        .await
        .error(StatusCode::BAD_REQUEST);
    assert!(
        error.contains("1000000 gaps") && error.contains("at most 10000"),
        "{error}"
    );
    assert_eq!(node.sync.asked(), Vec::<String>::new());
}
