//! The program against a stand-in for an API server and its agents.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod stand_in;

use serde_json::Value;
use stand_in::{Behaviour, Oddity, StandIn, run};

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_nodes_and_what_their_agents_say() {
    let cluster = StandIn::start(Behaviour::default()).await;
    let ran = cluster.run(&["status"]).await;
    ran.says(
        0,
        &[
            "america",
            "asia",
            "europe",
            "28,562,601",
            "Stalled",
            "fill",
            "follow",
            "ImagePullBackOff",
            "kubectl honeygraph -n default sync asia",
        ],
    );
    let one = cluster.run(&["status", "america", "-o", "json"]).await;
    one.says(0, &[]);
    let report: Value = serde_json::from_str(&one.stdout).expect("JSON");
    assert_eq!(report["nodes"].as_array().expect("nodes").len(), 1);
    assert_eq!(report["agents"][0]["mode"], "follow");
    assert_eq!(report["problems"].as_array().expect("problems").len(), 0);
    cluster
        .run(&["status", "-o", "yaml"])
        .await
        .says(0, &["agentsAsked: true", "- namespace: default"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_may_only_look_sees_what_the_operator_saw() {
    let cluster = StandIn::start(Behaviour {
        forbidden: vec!["/portforward", "/secrets", "/checkpoints"],
        ..Behaviour::default()
    })
    .await;
    cluster
        .run(&["status"])
        .await
        .says(0, &["america", "Agents were not asked", "pods/portforward"]);
    cluster
        .run(&["gaps", "asia"])
        .await
        .says(1, &["you may not forward ports to pods"]);
    cluster
        .run(&["sync", "asia"])
        .await
        .says(1, &["ask for get and create on pods/portforward"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_and_peers_come_from_the_agents() {
    let cluster = StandIn::start(Behaviour::default()).await;
    cluster
        .run(&["gaps", "america"])
        .await
        .says(0, &["misses nothing"]);
    cluster.run(&["gaps"]).await.says(
        1,
        &[
            "28,560,002 to 28,561,205",
            "connection refused",
            "pod europe-agent-0-0 does not run",
        ],
    );
    cluster
        .run(&["peers", "america", "asia"])
        .await
        .says(1, &["https://oceania.example/", "silent", "97 %"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_has_agents_fill_their_gaps() {
    let cluster = StandIn::start(Behaviour::default()).await;
    cluster.run(&["sync", "asia"]).await.says(
        1,
        &[
            "filled 1,704 blocks of 2 gaps: 1,704 blocks from america-agent-0",
            "connection refused",
        ],
    );
    cluster
        .run(&["sync", "america"])
        .await
        .says(0, &["misses nothing"]);
    cluster
        .run(&["sync", "asia", "--api-key-file", "/nonexistent/key"])
        .await
        .says(1, &["--api-key-file /nonexistent/key: cannot be read"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_brings_the_key_that_an_agent_wants() {
    let lacking = Behaviour {
        odd: vec![Oddity::AmericaMisses],
        ..Behaviour::default()
    };
    let cluster = StandIn::start(lacking.clone()).await;
    // That of the Secret that the spec names.
    cluster
        .run(&["sync", "america"])
        .await
        .says(0, &["filled 1,704 blocks"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    std::fs::write(file.path(), "another-key").unwrap();
    cluster
        .run(&["sync", "america", "--api-key-file", &path])
        .await
        .says(1, &["wants an API key", "--api-key-file"]);
    let without_secrets = StandIn::start(Behaviour {
        forbidden: vec!["/secrets"],
        ..lacking
    })
    .await;
    without_secrets
        .run(&["sync", "america"])
        .await
        .says(1, &["wants an API key"]);
    std::fs::write(file.path(), stand_in::KEY).unwrap();
    without_secrets
        .run(&["sync", "america", "--api-key-file", &path])
        .await
        .says(0, &["filled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_waits_no_longer_than_it_is_told() {
    let cluster = StandIn::start(Behaviour {
        odd: vec![Oddity::AmericaMisses, Oddity::FillsForEver],
        ..Behaviour::default()
    })
    .await;
    cluster
        .run(&["sync", "america", "--timeout", "200ms"])
        .await
        .says(0, &["is still filling 1,704 blocks"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_all_agents_carry_their_names() {
    let cluster = StandIn::start(Behaviour::default()).await;
    let ran = cluster.run(&["logs", "asia"]).await;
    ran.says(
        1,
        &[
            "asia-agent-0  {\"pod\":\"asia-agent-0-0\"}\n",
            "asia-agent-0   [31mred\n",
            "asia-agent-0  no end\n",
            "asia-agent-1  container \"agent\" is waiting to start",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_everything() {
    let cluster = StandIn::start(Behaviour::default()).await;
    cluster.run(&["doctor"]).await.says(
        1,
        &[
            "Kubernetes v1.34.2",
            "honeygraphnodes.honeygraph.io is installed",
            "2 of 2 pods ready",
            "honeygraph-operator-7c9f-x2x4p leads",
            "may not get secrets, list secrets",
            "america-agent-0: answers, its clock is right",
            "claim europe-agent-0-g1 is Pending",
        ],
    );
    let forbidden = StandIn::start(Behaviour {
        forbidden: vec!["/customresourcedefinitions", "/deployments", "/portforward"],
        ..Behaviour::default()
    })
    .await;
    let ran = forbidden.run(&["doctor", "america", "--output", "json"]).await;
    ran.says(0, &["you may not list deployments", "\"warning\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_to_do() {
    let cluster = StandIn::start(Behaviour::default()).await;
    cluster.run(&["gaps", "africa"]).await.says(
        1,
        &["there is no node africa in namespace default; there are: america, asia, europe"],
    );

    let forbidden = StandIn::start(Behaviour {
        forbidden: vec!["/honeygraphnodes"],
        ..Behaviour::default()
    })
    .await;
    forbidden.run(&["status", "-A"]).await.says(
        1,
        &[
            "you may not list honeygraphnodes in any namespace",
            "ClusterRole `view`",
        ],
    );

    let bare = StandIn::start(Behaviour {
        absent: vec!["/honeygraphnodes", "/customresourcedefinitions", "/deployments"],
        ..Behaviour::default()
    })
    .await;
    bare.run(&["status"])
        .await
        .says(1, &["this cluster has no HoneygraphNodes: install the chart"]);

    let stranger = StandIn::start(Behaviour {
        odd: vec![Oddity::KnowsNobody],
        ..Behaviour::default()
    })
    .await;
    stranger.run(&["status"]).await.says(1, &["does not know you"]);
    stranger
        .run(&["doctor"])
        .await
        .says(1, &["does not know you", "1 check failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_later_version_hides_no_other() {
    let cluster = StandIn::start(Behaviour {
        odd: vec![Oddity::LaterNode],
        ..Behaviour::default()
    })
    .await;
    cluster
        .run(&["status"])
        .await
        .says(0, &["america", "its object is not understood"]);
    cluster
        .run(&["sync", "later"])
        .await
        .says(1, &["node later is not understood"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_it_says_where_one_is_named() {
    run(&["status"])
        .await
        .says(1, &["no cluster is configured", "KUBECONFIG"]);
    run(&["doctor", "--kubeconfig", "/nonexistent/config"])
        .await
        .says(1, &["/nonexistent/config", "1 check failed"]);
    run(&["status", "--nonsense"]).await.says(64, &["--nonsense"]);

    // A port that nobody listens on any more.
    let cluster = StandIn::start(Behaviour::default()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = serde_json::json!({
        "clusters": [{"name": "gone", "cluster": {"server": format!("http://{address}")}}],
        "users": [], "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": ""}}],
        "current-context": "gone",
    });
    std::fs::write(file.path(), config.to_string()).unwrap();
    let path = file.path().display().to_string();
    run(&["--kubeconfig", &path, "status"])
        .await
        .says(1, &["does not answer", "refused"]);
    run(&["--kubeconfig", &path, "doctor"])
        .await
        .says(1, &["does not answer"]);
    run(&["--kubeconfig", &path, "--context", "other", "status"])
        .await
        .says(1, &["other", "--context"]);
    drop(cluster);
}
