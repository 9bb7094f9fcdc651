//! Who may call what changes something.

use serde_json::json;

use super::*;

const MUTATING: [&str; 4] = [
    "/api/sync/peers",
    "/api/sync/discover",
    "/api/sync/sync-gaps",
    "/api/sync/sync-from/1",
];

fn body_of(path: &str) -> Value {
    match path {
        "/api/sync/peers" => json!({"peerId": "a", "url": "http://a.example"}),
        "/api/sync/discover" => json!({"nodes": []}),
        _ => json!({"gaps": []}),
    }
}

fn call(remote: &str, path: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let request = from(remote, Method::POST, path, Some(&body_of(path)));
    headers.iter().fold(request, |request, (name, value)| {
        with_header(request, name, value)
    })
}

#[tokio::test]
async fn without_a_key_only_direct_loopback_may() {
    let node = Fixture::new();
    for path in MUTATING {
        for remote in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "127.9.9.9:1"] {
            send(node.public(), call(remote, path, &[])).await.good();
        }
        for remote in ["192.0.2.1:1", "10.0.0.1:1", "[2001:db8::1]:1"] {
            let error = send(node.public(), call(remote, path, &[]))
                .await
                .error(StatusCode::FORBIDDEN);
            assert!(error.contains("API_KEYS_FILE"), "{error}");
            // A key that nobody configured proves nothing.
            let claimed = [("authorization", "Bearer a-key-of-a-test-node")];
            send(node.public(), call(remote, path, &claimed))
                .await
                .error(StatusCode::FORBIDDEN);
            // Nor does what a caller says of itself.
            let claimed = [("x-forwarded-for", "127.0.0.1")];
            send(node.public(), call(remote, path, &claimed))
                .await
                .error(StatusCode::FORBIDDEN);
        }
        for header in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-real-ip",
            "via",
            "origin",
        ] {
            let request = call("127.0.0.1:1", path, &[(header, "127.0.0.1")]);
            send(node.public(), request).await.error(StatusCode::FORBIDDEN);
        }
        let mut unknown = call("127.0.0.1:1", path, &[]);
        unknown.extensions_mut().clear();
        send(node.public(), unknown).await.error(StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn with_keys_every_caller_needs_one() {
    let mut settings = api_settings();
    settings.api_keys = vec!["another-key-of-the-node".parse().unwrap(), KEY.parse().unwrap()];
    let node = Fixture::with(settings);
    let good = format!("Bearer {KEY}");
    let lower = format!("bearer {KEY}");
    for path in MUTATING {
        for remote in ["127.0.0.1:1", "192.0.2.1:1"] {
            for right in [&good, &lower] {
                send(node.public(), call(remote, path, &[("authorization", right)]))
                    .await
                    .good();
            }
            for wrong in [
                "",
                "Bearer",
                "Bearer ",
                "Bearer wrong-key-of-the-node",
                "Basic YTpi",
                KEY,
                "Bearer a-key-of-a-test-nodex",
            ] {
                let answer = send(node.public(), call(remote, path, &[("authorization", wrong)])).await;
                answer.error(StatusCode::UNAUTHORIZED);
                assert_eq!(answer.header("www-authenticate"), "Bearer");
            }
            send(node.public(), call(remote, path, &[]))
                .await
                .error(StatusCode::UNAUTHORIZED);
        }
        // Two credentials are none.
        let mut twice = call("127.0.0.1:1", path, &[("authorization", &good)]);
        twice.headers_mut().append("authorization", good.parse().unwrap());
        send(node.public(), twice).await.error(StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn who_may_not_call_is_not_told_what_is_wrong_with_the_body() {
    let node = Fixture::new();
    let mut request = from("192.0.2.1:1", Method::POST, "/api/sync/sync-gaps", None);
    *request.body_mut() = Body::from("{");
    send(node.public(), request).await.error(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn reading_needs_no_key() {
    let mut settings = api_settings();
    settings.api_keys = vec![KEY.parse().unwrap()];
    let node = Fixture::with(settings);
    for path in [
        "/health",
        "/api/sync/status",
        "/api/sync/peers",
        "/api/query/head",
    ] {
        send(node.public(), from("192.0.2.1:1", Method::GET, path, None))
            .await
            .good();
    }
}
