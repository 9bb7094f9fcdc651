//! The admin API.

use serde_json::json;

use super::*;
use crate::config::DgraphMode;
use crate::dgraph::job::Jobs;
use crate::dgraph::status::ProjectionStatus;
use crate::replica::ReplicaStatus;

async fn ask(node: &Fixture, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let request = from("192.0.2.1:1", method, path, body);
    let request = with_header(request, "authorization", &format!("Bearer {TOKEN}"));
    send(crate::api::admin::router(Arc::clone(&node.node)), request).await
}

#[tokio::test]
async fn every_call_needs_the_token() {
    let mut settings = api_settings();
    settings.api_keys = vec![KEY.parse().unwrap()];
    let node = Fixture::with(settings);
    let router = || crate::api::admin::router(Arc::clone(&node.node));
    for (method, path) in [
        (Method::GET, "/status"),
        (Method::POST, "/hold"),
        (Method::POST, "/resume"),
        (Method::POST, "/clear-halt"),
        (Method::GET, "/peers"),
        (Method::POST, "/peers"),
        (Method::POST, "/dgraph/verify"),
        (Method::POST, "/dgraph/rebuild"),
        (Method::GET, "/dgraph/job"),
        (Method::DELETE, "/dgraph/job"),
    ] {
        let call = || from("127.0.0.1:1", method.clone(), path, Some(&json!({})));
        send(router(), call()).await.error(StatusCode::UNAUTHORIZED);
        // The key of the public API is another one.
        let wrong = with_header(call(), "authorization", &format!("Bearer {KEY}"));
        send(router(), wrong).await.error(StatusCode::UNAUTHORIZED);
    }
    let mut settings = api_settings();
    settings.admin_token = None;
    let node = Fixture::with(settings);
    let router = || crate::api::admin::router(Arc::clone(&node.node));
    send(router(), from("127.0.0.1:1", Method::GET, "/status", None))
        .await
        .good();
    send(router(), from("192.0.2.1:1", Method::GET, "/status", None))
        .await
        .error(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn status_says_everything() {
    let node = Fixture::new();
    let status = ask(&node, Method::GET, "/status", None).await.good();
    assert_eq!(status["sessionId"], node.node.session_id().to_string());
    assert_eq!(status["sync"]["stateHeight"], at(HEAD).get());
    assert_eq!(status["sources"].as_array().unwrap().len(), 3);
    assert_eq!(status["peers"][0]["score"], 1.5);
    assert_eq!(status["peers"][0]["standing"], "good");
    assert_eq!(status["counters"]["gapsDetected"], 3);
    assert_eq!(status["alive"], true);
    assert_eq!(
        ask(&node, Method::GET, "/peers", None)
            .await
            .good()
            .as_array()
            .unwrap()
            .len(),
        3
    );
    // Another start is another session.
    assert_ne!(Fixture::empty().node.session_id(), node.node.session_id());
}

#[tokio::test]
async fn commits_are_held_at_a_checkpoint_and_resumed() {
    let node = Fixture::new();
    let refused = ask(&node, Method::POST, "/hold", Some(&json!({"block": at(360)}))).await;
    let error = refused.error(StatusCode::CONFLICT);
    assert!(error.contains("is not a checkpoint"), "{error}");
    let error = ask(&node, Method::POST, "/hold", Some(&json!({"block": at(99)})))
        .await
        .error(StatusCode::CONFLICT);
    assert!(error.contains("below the state height"), "{error}");

    let extend = |places: std::ops::Range<usize>| {
        let replica = node.replica.clone();
        async move {
            let peer: PeerId = "a".parse().unwrap();
            let _ = replica
                .extend(peer, chain().blocks[places].to_vec())
                .await
                .unwrap();
        }
    };
    extend(HEAD + 1..400).await;
    let body = json!({"block": at(399), "milliseconds": 600_000});
    let answer = ask(&node, Method::POST, "/hold", Some(&body)).await.good();
    assert_eq!(answer["block"], at(399).get());
    assert_eq!(
        answer["anchor"]["stateHash"],
        chain().checkpoints[3].cid.to_string()
    );
    assert_eq!(answer["sessionId"], node.node.session_id().to_string());
    let beyond = tokio::spawn(extend(400..500));
    ask(&node, Method::GET, "/status", None).await.good();
    assert_eq!(
        node.store.view().position().unwrap().unwrap().state_height,
        at(399)
    );
    let resumed = ask(&node, Method::POST, "/resume", None).await.good();
    assert_eq!(resumed["resumed"], true);
    beyond.await.unwrap();
    // A commit may still be under way when its blocks are accepted.
    let mut status = node.replica.status();
    let is_durable = |status: &Arc<ReplicaStatus>| {
        let position = status.position.as_ref();
        position.is_some_and(|position| position.state_height == at(499))
    };
    status.wait_for(is_durable).await.unwrap();
    assert_eq!(
        node.store.view().position().unwrap().unwrap().state_height,
        at(499)
    );
    assert_eq!(
        ask(&node, Method::POST, "/resume", None).await.good()["resumed"],
        false
    );
    assert_eq!(
        ask(&node, Method::POST, "/clear-halt", None).await.good()["success"],
        true
    );
}

#[tokio::test]
async fn bad_input_is_named() {
    let node = Fixture::new();
    for body in [
        json!({"milliseconds": 0}),
        json!({"milliseconds": 3_600_001}),
        json!({"milliseconds": -1}),
        json!({"block": -1}),
        json!({"blok": 1}),
        json!([]),
    ] {
        ask(&node, Method::POST, "/hold", Some(&body))
            .await
            .error(StatusCode::BAD_REQUEST);
    }
    let peer = json!({"peerId": "a", "url": "nowhere"});
    ask(&node, Method::POST, "/peers", Some(&peer))
        .await
        .error(StatusCode::BAD_REQUEST);
    ask(&node, Method::GET, "/nothing", None)
        .await
        .error(StatusCode::NOT_FOUND);
    ask(&node, Method::DELETE, "/peers", None)
        .await
        .error(StatusCode::METHOD_NOT_ALLOWED);
    let peer = json!({"peerId": "new", "url": "http://10.0.0.7:3030"});
    ask(&node, Method::POST, "/peers", Some(&peer)).await.good();
    assert_eq!(node.sync.asked(), ["register new http://10.0.0.7:3030"]);
}

#[tokio::test]
async fn a_dgraph_is_compared_and_filled_by_one_job_at_a_time() {
    let without = Fixture::new();
    let job = |node| ask(node, Method::GET, "/dgraph/job", None);
    let error = job(&without).await.error(StatusCode::NOT_FOUND);
    assert!(error.contains("DGRAPH_ALPHA"), "{error}");

    let (_projection, status) = ProjectionStatus::channel();
    let jobs = Jobs::default();
    let dgraph = DgraphView {
        mode: DgraphMode::Shared,
        status,
        jobs: jobs.clone(),
        pass_through: None,
    };
    let node = Fixture::beside(api_settings(), Some(dgraph));
    assert_eq!(job(&node).await.good()["job"], json!(null));
    let call = |path, body| {
        let node = &node;
        async move { ask(node, Method::POST, path, Some(&body)).await }
    };
    let refused = call("/dgraph/verify", json!({"mend": true})).await;
    refused.error(StatusCode::BAD_REQUEST);
    let asked = call("/dgraph/verify", json!({"repair": true})).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED);
    let answer = job(&node).await.good();
    assert_eq!(answer["sessionId"], node.node.session_id().to_string());
    let stands = &answer["job"];
    assert_eq!(
        (&stands["work"], &stands["repair"]),
        (&json!("verify"), &json!(true))
    );
    assert_eq!((&stands["state"], &stands["id"]), (&json!("queued"), &json!(1)));
    let error = call("/dgraph/rebuild", json!({}))
        .await
        .error(StatusCode::CONFLICT);
    assert!(error.contains("job 1 is under way"), "{error}");
    jobs.done();
    let asked = call("/dgraph/rebuild", json!({"drop": true})).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED);
    assert!(jobs.wants_drop());
    let cancel = || ask(&node, Method::DELETE, "/dgraph/job", None);
    let cancelled = cancel().await.good();
    assert_eq!(cancelled["job"]["state"], "failed");
    assert_eq!(cancelled["job"]["error"], "cancelled");
    assert!(!jobs.wants_drop());
    let error = cancel().await.error(StatusCode::CONFLICT);
    assert!(error.contains("no job"), "{error}");
}
