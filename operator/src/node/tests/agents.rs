use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;

use super::*;

/// A setting of an agent.
fn setting(resources: &Resources, agent: usize, name: &str) -> Option<String> {
    resources.config_maps[agent].data.as_ref()?.get(name).cloned()
}

fn list(resources: &Resources, agent: usize, name: &str) -> Vec<String> {
    let value = setting(resources, agent, name).unwrap_or_default();
    value
        .split(',')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn an_embedded_node_is_its_agents_alone() {
    let resources = built(&alone(embedded("eu"))).expect("a node");
    assert_eq!(names(&resources.agents), ["eu-agent-0"]);
    assert_eq!(names(&resources.claims), ["eu-agent-0-g1"]);
    assert_eq!(names(&resources.services), ["eu-agent", "eu"]);
    assert_eq!(names(&resources.network_policies), ["eu-default", "eu-agent"]);
    assert_eq!(names(&resources.disruption_budgets), ["eu-agent"]);
    assert!(resources.zeros.is_empty() && resources.alphas.is_empty() && resources.ingresses.is_empty());
    assert_eq!(setting(&resources, 0, "DGRAPH_ALPHA"), None);
    assert_eq!(setting(&resources, 0, "NETWORK").as_deref(), Some("dlux"));
    assert_eq!(setting(&resources, 0, "SYNC_INTERVAL").as_deref(), Some("30000"));
    assert_eq!(
        setting(&resources, 0, "SYNC_BUFFER_BYTES").as_deref(),
        Some("67108864")
    );
    assert_eq!(setting(&resources, 0, "PEER_ID").as_deref(), Some("eu-agent-0"));
}

/// What the Pod Security Standard `restricted` asks for, and more.
#[test]
fn pods_are_hardened() {
    let resources = built(&alone(node("eu", json!({})))).expect("a node");
    for set in resources
        .agents
        .iter()
        .chain(&resources.zeros)
        .chain(&resources.alphas)
    {
        // A pod that never became ready is replaced by a corrected one.
        assert_eq!(json_of(set)["spec"]["podManagementPolicy"], "Parallel");
        let pod = &json_of(set)["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for container in pod["containers"].as_array().expect("containers") {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                assert!(container[probe].is_object(), "{probe}");
            }
        }
    }
    assert!(
        resources
            .service_accounts
            .iter()
            .all(|account| account.automount_service_account_token == Some(false))
    );
}

#[test]
fn everything_but_volumes_goes_with_the_node() {
    let spec = json!({"volumeDeletionPolicy": "Delete"});
    let deleted = built(&alone(node("eu", spec))).expect("a node");
    assert!(
        deleted
            .claims
            .iter()
            .all(|claim| claim.metadata.owner_references.is_some())
    );
    let resources = built(&alone(node(
        "eu",
        json!({"peers": {"static": [{"url": "https://far.example"}]}}),
    )))
    .expect("a node");
    let owned = |object: serde_json::Value| object["metadata"]["ownerReferences"][0]["uid"] == "uid-of-eu";
    assert!(resources.agents.iter().all(|set| owned(json_of(set))));
    assert!(resources.secrets.iter().all(|secret| owned(json_of(secret))));
    assert!(
        resources
            .network_policies
            .iter()
            .all(|policy| owned(json_of(policy)))
    );
    assert!(
        resources
            .claims
            .iter()
            .all(|claim| claim.metadata.owner_references.is_none())
    );
}

#[test]
fn nodes_of_a_network_are_peers_and_one_agent_of_each_votes() {
    let mut input = alone(node(
        "eu",
        json!({
            "agent": {"replicas": 2},
            "dgraph": {"mode": "Embedded"},
            "peers": {"static": [{"url": "https://far.example"}, {"url": "https://mute.example:8443", "voteWeight": 0}]},
        }),
    ));
    input.neighbours = vec![
        Arc::new(node("us", json!({"agent": {"replicas": 2}}))),
        Arc::new(node("ap", json!({"agent": {"replicas": 0}}))),
    ];
    let resources = built(&input).expect("a node");
    assert_eq!(
        list(&resources, 0, "PEERS"),
        [
            "http://eu-agent-1-0.eu-agent.default.svc:3030",
            "http://us-agent-0-0.us-agent.default.svc:3030",
            "http://us-agent-1-0.us-agent.default.svc:3030",
            "https://far.example",
            "https://mute.example:8443",
        ]
    );
    assert_eq!(
        list(&resources, 0, "VOTERS"),
        [
            "http://us-agent-0-0.us-agent.default.svc:3030",
            "https://far.example"
        ]
    );
}

#[test]
fn honeycombs_are_spread_over_agents_that_count_the_same_weight() {
    let source = |name: &str, weight: i32| json!({"name": name, "token": {"name": "tokens", "key": name}, "voteWeight": weight});
    let input = alone(node(
        "eu",
        json!({
            "agent": {"replicas": 2},
            "dgraph": {"mode": "Embedded"},
            "honeycomb": {"sources": [source("a", 1), source("b", 2), source("c", 4)]},
        }),
    ));
    let token = "0123456789abcdef";
    let input = with_secret(input, "tokens", &[("a", token), ("b", token), ("c", token)]);
    let resources = built(&input).expect("a node");
    assert_eq!(
        list(&resources, 0, "VOTERS"),
        ["a", "c=4", "http://eu-agent-1-0.eu-agent.default.svc:3030=2"]
    );
    assert_eq!(
        list(&resources, 1, "VOTERS"),
        ["b=2", "http://eu-agent-0-0.eu-agent.default.svc:3030=5"]
    );
    assert_eq!(
        names(&resources.services),
        ["eu-agent", "eu", "eu-ingest-0", "eu-ingest-1"]
    );
    let files: Vec<_> = resources
        .secrets
        .iter()
        .filter_map(|secret| {
            String::from_utf8(secret.data.as_ref()?.get("honeycomb-sources")?.0.clone()).ok()
        })
        .collect();
    assert_eq!(files, [format!("a={token}\nc={token}\n"), format!("b={token}\n")]);
}

#[test]
fn what_a_secret_lacks_is_said_without_its_contents() {
    let spec = json!({
        "dgraph": {"mode": "Embedded"},
        "honeycomb": {"sources": [{"name": "a", "token": {"name": "tokens", "key": "a"}}]},
    });
    let input = || alone(node("eu", spec.clone()));
    let refused = |input: Dereferenced| built(&input).expect_err("refused");
    assert!(matches!(refused(input()), Invalid::SecretMissing { name, .. } if name == "tokens"));
    let other_key = with_secret(input(), "tokens", &[("b", "0123456789abcdef")]);
    assert!(matches!(refused(other_key), Invalid::SecretKeyMissing { key, .. } if key == "a"));
    let empty = with_secret(input(), "tokens", &[("a", "\n")]);
    assert!(matches!(refused(empty), Invalid::SecretKeyMissing { .. }));
    for unusable in ["short", "with,a,comma,in,it"] {
        let error = refused(with_secret(input(), "tokens", &[("a", unusable)]));
        assert!(matches!(error, Invalid::SecretUnusable { .. }));
        assert!(!error.to_string().contains(unusable), "{error}");
    }
    let fixed = with_secret(input(), "tokens", &[("a", "0123456789abcdef\n")]);
    built(&fixed).expect("a node");
}

#[test]
fn somebody_must_vote() {
    let input = alone(node(
        "eu",
        json!({
            "dgraph": {"mode": "Embedded"},
            "peers": {"static": [{"url": "https://far.example", "voteWeight": 0}]},
        }),
    ));
    assert_eq!(built(&input).expect_err("refused"), Invalid::NobodyVotes);
    built(&alone(embedded("eu"))).expect("a node without peers has nobody to ask");
}

#[test]
fn a_changed_secret_restarts_agents() {
    let spec = json!({"dgraph": {"mode": "Embedded"}, "peers": {"apiKeys": {"name": "keys", "key": "keys"}}});
    let revision = |keys: &str| {
        let input = with_secret(alone(node("eu", spec.clone())), "keys", &[("keys", keys)]);
        let resources = built(&input).expect("a node");
        json_of(&resources.agents[0])["spec"]["template"]["metadata"]["annotations"].clone()
    };
    assert_eq!(revision("one-key-0123456789"), revision("one-key-0123456789"));
    assert_ne!(revision("one-key-0123456789"), revision("another-0123456789"));
}

#[test]
fn the_newest_generation_of_a_claim_is_used() {
    let mut input = alone(embedded("eu"));
    for (name, generation) in [
        ("eu-agent-0-g1", "1"),
        ("eu-agent-0-g2", "2"),
        ("eu-alpha-0-g7", "7"),
    ] {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.name = Some(name.to_owned());
        claim
            .labels_mut()
            .insert("honeygraph.io/generation".to_owned(), generation.to_owned());
        input.claims.push(claim);
    }
    let resources = built(&input).expect("a node");
    assert_eq!(names(&resources.claims), ["eu-agent-0-g2"]);
    let volumes = &json_of(&resources.agents[0])["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volumes[0]["persistentVolumeClaim"]["claimName"], "eu-agent-0-g2");
}

#[test]
fn a_thousand_peers_fit() {
    let peers: Vec<_> = (0..1000)
        .map(|number| json!({"url": format!("https://peer-{number}.example:8443")}))
        .collect();
    let input = alone(node(
        "eu",
        json!({"dgraph": {"mode": "Embedded"}, "peers": {"static": peers}}),
    ));
    let resources = built(&input).expect("a node");
    assert_eq!(list(&resources, 0, "PEERS").len(), 1000);
    // Linux gives no program a variable of more than 128 KiB.
    assert!(setting(&resources, 0, "VOTERS").is_some_and(|voters| voters.len() < 128 << 10));
}
