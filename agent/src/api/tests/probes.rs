//! Probes and metrics.

use honeygraph_chain::fork::BlockReference;

use super::*;
use crate::config::DgraphMode;
use crate::dgraph::client::DgraphError;
use crate::dgraph::job::Jobs;
use crate::dgraph::status::ProjectionStatus;
use crate::metrics::{BlockOutcome, PeerLabel, ProjectionOutcome, RequestOutcome};

async fn ask(node: &Fixture, path: &str) -> Answer {
    send(
        crate::api::probes::router(Arc::clone(&node.node)),
        request(Method::GET, path, None),
    )
    .await
}

#[tokio::test]
async fn a_node_with_a_state_is_ready() {
    let node = Fixture::new();
    for path in ["/livez", "/startupz"] {
        assert_eq!(ask(&node, path).await.good()["alive"], true);
    }
    let ready = ask(&node, "/readyz").await.good();
    assert_eq!(ready["ready"], true);
    assert_eq!(ready["mode"], "follow");
    assert_eq!(ready["stateHeight"], at(HEAD).get());
    assert_eq!(ready["lag"], 0);
    assert!(ready["ageSeconds"].as_u64().unwrap() > 1_000_000);
}

#[tokio::test]
async fn a_node_without_a_state_is_alive_but_not_ready() {
    let node = Fixture::empty();
    ask(&node, "/livez").await.good();
    let answer = ask(&node, "/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["ready"], false);
    ask(&node, "/nothing").await.error(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn metrics_have_the_names_that_alerts_ask_for() {
    let node = Fixture::new();
    node.get("/health").await;
    node.get(&format!("/api/sync/hash/{}", at(3))).await;
    node.get("/nothing").await;
    let metrics = &node.node.metrics;
    metrics.observe_commit(Duration::from_millis(3));
    metrics.count_peer_request(PeerLabel::Configured("alive"), RequestOutcome::Success);
    metrics.count_peer_request(PeerLabel::Discovered, RequestOutcome::LocalFault);
    metrics.count_sync_blocks(BlockOutcome::Committed, 5);
    let answer = ask(&node, "/metrics").await;
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let height = at(HEAD);
    for line in [
        format!("honeygraph_head_block {height}"),
        format!("honeygraph_state_height_block {height}"),
        format!("honeygraph_irreversible_block {}", at(FINAL)),
        "honeygraph_sync_lag_blocks 0".to_owned(),
        "honeygraph_missing_blocks 0".to_owned(),
        "honeygraph_largest_gap_blocks 0".to_owned(),
        "honeygraph_gaps_detected_total 3".to_owned(),
        "honeygraph_peers{state=\"alive\"} 1".to_owned(),
        "honeygraph_peers{state=\"unreachable\"} 1".to_owned(),
        "honeygraph_peers{state=\"banned\"} 1".to_owned(),
        "honeygraph_peer_requests_total{peer=\"alive\",outcome=\"success\"} 1".to_owned(),
        "honeygraph_peer_requests_total{peer=\"discovered\",outcome=\"local_fault\"} 1".to_owned(),
        "honeygraph_sync_blocks_total{outcome=\"committed\"} 5".to_owned(),
        "honeygraph_reorgs_total 0".to_owned(),
        "honeygraph_reorg_depth_blocks 0".to_owned(),
        "honeygraph_state_hash_mismatches_total 0".to_owned(),
        "honeygraph_commit_duration_seconds_count 1".to_owned(),
        "honeygraph_http_requests_total{listener=\"public\",route=\"/health\",status=\"200\"} 1".to_owned(),
        "honeygraph_http_requests_total{listener=\"public\",route=\"/api/sync/hash/{block}\",status=\"200\"} 1"
            .to_owned(),
        "honeygraph_http_requests_total{listener=\"public\",route=\"unknown\",status=\"404\"} 1".to_owned(),
        format!("honeygraph_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for name in [
        "honeygraph_network_head_timestamp_seconds ",
        "honeygraph_store_bytes ",
        "honeygraph_sync_buffer_bytes ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
    }
    // The source on the fork stands apart from this replica, if it is connected.
    assert!(text.contains("honeygraph_fork_divergence "));
}

#[tokio::test]
async fn metrics_say_how_far_dgraph_is() {
    let embedded = Fixture::new().node.metrics.encode().unwrap();
    for name in ["dgraph_up", "dgraph_applied_block", "dgraph_lag_blocks"] {
        assert!(!embedded.contains(name), "{name}");
    }
    let (projection, status) = ProjectionStatus::channel();
    let dgraph = DgraphView {
        mode: DgraphMode::Independent,
        jobs: Jobs::default(),
        status,
        pass_through: None,
    };
    let node = Fixture::beside(api_settings(), Some(dgraph));
    let metrics = &node.node.metrics;
    let has = |line: &str| {
        let text = metrics.encode().unwrap();
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    };
    has("honeygraph_dgraph_up 0");
    assert!(!metrics.encode().unwrap().contains("dgraph_lag_blocks"));
    let applied = BlockReference {
        number: at(HEAD - 7),
        hash: ContentId::of(b"x"),
    };
    projection.send_modify(|status| status.reached(applied, None));
    has("honeygraph_dgraph_up 1");
    has(&format!("honeygraph_dgraph_applied_block {}", at(HEAD - 7)));
    has("honeygraph_dgraph_lag_blocks 7");

    metrics.count_dgraph_transaction(ProjectionOutcome::Committed);
    for error in [
        DgraphError::Aborted,
        DgraphError::Answer("x".to_owned()),
        DgraphError::Refused {
            endpoint: "http://alpha".parse().unwrap(),
            message: "x".to_owned(),
        },
    ] {
        metrics.count_dgraph_transaction((&error).into());
    }
    for outcome in ["committed", "conflict", "unknown", "failed"] {
        has(&format!(
            "honeygraph_dgraph_transactions_total{{outcome=\"{outcome}\"}} 1"
        ));
    }
    metrics.count_dgraph_mismatch();
    has("honeygraph_dgraph_mismatches_total 1");
    has("honeygraph_dgraph_mismatch 0");
    metrics.observe_dgraph_step(Duration::from_millis(3));
    has("honeygraph_dgraph_step_seconds_count 1");
}
