//! Real answers against the description of the API.

use super::*;

/// The schema of the JSON answer to a call, made whole.
fn schema(api: &Value, path: &str, method: &str, status: &str) -> Value {
    let answer = &api["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"];
    assert!(answer.is_object(), "{method} {path} has no answer {status}");
    let mut schema = answer.clone();
    schema["components"] = api["components"].clone();
    schema
}

fn check(api: &Value, path: &str, method: &str, answer: &Answer) {
    let schema = schema(api, path, method, answer.status.as_str());
    let validator = jsonschema::validator_for(&schema).unwrap();
    let body = answer.json();
    let errors: Vec<String> = validator
        .iter_errors(&body)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, Vec::<String>::new(), "{method} {path}: {body}");
}

#[tokio::test]
async fn answers_are_as_described() {
    let node = Fixture::new();
    let api = node.get("/openapi.json").await.good();
    let block = at(HEAD);
    let found = ConsensusFound {
        block_hash: chain().blocks[0].block.hash(),
        voters: vec!["one".to_owned()],
        confidence: 1.0,
    };
    *node.sync.consensus.lock().unwrap() = Ok(Ok(found));
    for (path, call) in [
        ("/health", "/health".to_owned()),
        ("/api/sync/status", "/api/sync/status".to_owned()),
        ("/api/sync/gaps", "/api/sync/gaps?from=1".to_owned()),
        ("/api/sync/peers", "/api/sync/peers".to_owned()),
        ("/api/sync/consensus/{block}", "/api/sync/consensus/1".to_owned()),
        ("/api/sync/capabilities", "/api/sync/capabilities".to_owned()),
        ("/api/sync/anchors", "/api/sync/anchors".to_owned()),
        ("/api/sync/hash/{block}", format!("/api/sync/hash/{block}")),
        ("/api/checkpoints", "/api/checkpoints".to_owned()),
        ("/api/query/state/{path}", "/api/query/state/stats".to_owned()),
        (
            "/api/query/block/{num}/full",
            format!("/api/query/block/{block}/full"),
        ),
        ("/api/query/head", "/api/query/head".to_owned()),
        ("/api/honeygraph-peers", "/api/honeygraph-peers".to_owned()),
    ] {
        let answer = node.get(&call).await;
        assert_eq!(answer.status, StatusCode::OK, "{call}");
        check(&api, path, "get", &answer);
    }
    for (path, call) in [
        ("/api/sync/gaps", "/api/sync/gaps?from=x"),
        ("/api/sync/blocks", "/api/sync/blocks?from=1&to=1"),
        ("/api/sync/blocks", "/api/sync/blocks?from=1&to=x"),
        ("/api/sync/hash/{block}", "/api/sync/hash/1"),
        ("/api/checkpoints/{contentId}", "/api/checkpoints/x"),
        ("/api/query/state/{path}", "/api/query/state/nothing"),
        ("/api/query/block/{num}/full", "/api/query/block/1/full"),
        ("/api/query/head", "/api/query/head?fork=x"),
    ] {
        check(&api, path, "get", &node.get(call).await);
    }
    let body = serde_json::json!({"peerId": "a", "url": "http://a.example", "nodes": [], "gaps": []});
    for (path, call) in [
        ("/api/sync/peers", "/api/sync/peers"),
        ("/api/sync/discover", "/api/sync/discover"),
        ("/api/sync/sync-gaps", "/api/sync/sync-gaps"),
        ("/api/sync/sync-from/{block}", "/api/sync/sync-from/1"),
    ] {
        let answer = node.post(call, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{call}");
        check(&api, path, "post", &answer);
    }
}

#[test]
fn an_answer_of_another_shape_is_noticed() {
    let api = serde_json::to_value(crate::api::openapi()).unwrap();
    let schema = schema(&api, "/api/sync/hash/{block}", "get", "200");
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(!validator.is_valid(&serde_json::json!({"blockNum": "1"})));
}

#[test]
fn every_call_is_described_once() {
    let api = serde_json::to_value(crate::api::openapi()).unwrap();
    let paths: Vec<&String> = api["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths.len(), 20, "{paths:?}");
    assert!(paths.iter().all(|path| !path.contains('*')), "{paths:?}");
}

#[test]
fn the_documentation_has_the_description() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let description = format!("{}\n", crate::api::openapi().to_pretty_json().unwrap());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &description).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == description,
        "docs/openapi.json differs from the calls; run `UPDATE_DOCS=1 cargo test -p honeygraph-agent documentation`"
    );
}
