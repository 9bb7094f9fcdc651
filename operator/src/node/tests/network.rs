//! The policies by evaluation: who reaches whom, as a network that enforces them would decide it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Selector, SelectorExt};
use serde_json::json;

use super::*;

/// A pod with the labels of its namespace; or somebody outside the cluster.
#[derive(Clone)]
enum Party {
    Pod {
        namespace: &'static str,
        labels: BTreeMap<String, String>,
    },
    Outside,
}

impl Party {
    fn pod(namespace: &'static str, labels: &[(&str, &str)]) -> Self {
        Self::Pod {
            namespace,
            labels: crate::names::labels(labels.iter().copied()),
        }
    }

    /// The pod of the first member among these.
    fn member(sets: &[k8s_openapi::api::apps::v1::StatefulSet]) -> Self {
        let labels = json_of(&sets[0])["spec"]["template"]["metadata"]["labels"].clone();
        Self::Pod {
            namespace: "default",
            labels: serde_json::from_value(labels).expect("labels"),
        }
    }

    fn is_selected(&self, policy: &NetworkPolicy) -> bool {
        let Self::Pod { namespace, labels } = self else {
            return false;
        };
        let spec = policy.spec.as_ref().expect("a spec");
        policy.metadata.namespace.as_deref() == Some(namespace)
            && selects(spec.pod_selector.as_ref().expect("a selector"), labels)
    }

    fn is(&self, peer: &NetworkPolicyPeer, own_namespace: &str) -> bool {
        let Self::Pod { namespace, labels } = self else {
            return peer.ip_block.is_some();
        };
        let namespace_fits = match &peer.namespace_selector {
            Some(selector) => selects(
                selector,
                &crate::names::labels([("kubernetes.io/metadata.name", *namespace)]),
            ),
            None => *namespace == own_namespace,
        };
        let pod_fits = peer
            .pod_selector
            .as_ref()
            .is_none_or(|selector| selects(selector, labels));
        peer.ip_block.is_none() && namespace_fits && pod_fits
    }
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let selector: Selector = selector.clone().try_into().expect("a selector");
    selector.matches(labels)
}

fn has_port(ports: Option<&Vec<NetworkPolicyPort>>, wanted: i32) -> bool {
    ports.is_none_or(|ports| {
        ports.iter().any(|port| {
            port.protocol.as_deref() == Some("TCP") && port.port == Some(IntOrString::Int(wanted))
        })
    })
}

/// Whether both sides' policies let a connection through. A side without a policy lets everything through.
fn reaches(policies: &[NetworkPolicy], from: &Party, to: &Party, port: i32) -> bool {
    let spec = |policy: &&NetworkPolicy| policy.spec.clone().expect("a spec");
    let leaving: Vec<_> = policies
        .iter()
        .filter(|policy| from.is_selected(policy))
        .collect();
    let leaves = leaving.is_empty()
        || leaving.iter().any(|policy| {
            spec(policy).egress.into_iter().flatten().any(|rule| {
                has_port(rule.ports.as_ref(), port)
                    && rule
                        .to
                        .is_none_or(|peers| peers.iter().any(|peer| to.is(peer, "default")))
            })
        });
    let entering: Vec<_> = policies.iter().filter(|policy| to.is_selected(policy)).collect();
    let enters = entering.is_empty()
        || entering.iter().any(|policy| {
            spec(policy).ingress.into_iter().flatten().any(|rule| {
                has_port(rule.ports.as_ref(), port)
                    && rule
                        .from
                        .is_none_or(|peers| peers.iter().any(|peer| from.is(peer, "default")))
            })
        });
    leaves && enters
}

#[test]
fn only_who_has_to_reaches_a_port() {
    let eu = built(&alone(node(
        "eu",
        json!({
            "peers": {"static": [{"url": "https://far.example:8443"}]},
        }),
    )))
    .expect("a node");
    let mut second = alone(node(
        "eu-b",
        json!({"dgraph": {"clusterRef": {"nodeRef": {"name": "eu"}}}}),
    ));
    second.dgraph_owner = Some(Arc::new(node("eu", json!({}))));
    let second = built(&second).expect("a node");
    let us = built(&alone(node("us", json!({})))).expect("a node");
    let policies: Vec<_> = [&eu, &second, &us]
        .into_iter()
        .flat_map(|resources| resources.network_policies.clone())
        .collect();

    let (agent, zero, alpha) = (
        Party::member(&eu.agents),
        Party::member(&eu.zeros),
        Party::member(&eu.alphas),
    );
    let writer = Party::member(&second.agents);
    let (other_agent, other_zero, other_alpha) = (
        Party::member(&us.agents),
        Party::member(&us.zeros),
        Party::member(&us.alphas),
    );
    let operator = Party::pod(
        "honeygraph-system",
        &[("app.kubernetes.io/name", "honeygraph-operator")],
    );
    let pretender = Party::pod("default", &[("app.kubernetes.io/name", "honeygraph-operator")]);
    let prometheus = Party::pod("monitoring", &[("app", "prometheus")]);
    let stranger = Party::pod("default", &[("app", "stranger")]);
    let outside = Party::Outside;

    let table = [
        ("a reader", &outside, &agent, 3030, true),
        ("a peer of another node", &other_agent, &agent, 3030, true),
        ("the operator drives", &operator, &agent, 3031, true),
        (
            "who calls itself operator elsewhere",
            &pretender,
            &agent,
            3031,
            false,
        ),
        ("a stranger drives", &stranger, &agent, 3031, false),
        ("outside drives", &outside, &agent, 3031, false),
        ("metrics", &prometheus, &agent, 9100, true),
        ("metrics from outside", &outside, &agent, 9100, false),
        ("no honeycomb is configured", &outside, &agent, 4000, false),
        ("the agent writes", &agent, &alpha, 9080, true),
        ("the agent of the second node writes", &writer, &alpha, 9080, true),
        (
            "an agent of another node writes",
            &other_agent,
            &alpha,
            9080,
            false,
        ),
        ("a stranger writes", &stranger, &alpha, 9080, false),
        ("alpha to zero", &alpha, &zero, 5080, true),
        ("zero to alpha", &zero, &alpha, 7080, true),
        ("an agent to zero", &agent, &zero, 5080, false),
        ("another cluster's alpha", &other_alpha, &zero, 5080, false),
        ("another cluster's zero", &other_zero, &alpha, 7080, false),
        ("another cluster's zero to zero", &other_zero, &zero, 5080, false),
        ("Dgraph's HTTP from a stranger", &stranger, &alpha, 8080, false),
        ("a static peer", &agent, &outside, 8443, true),
        ("honeycombs and gateways", &agent, &outside, 443, true),
        ("anything else outside", &agent, &outside, 22, false),
        ("Dgraph to the outside", &alpha, &outside, 443, false),
    ];
    for (what, from, to, port, expected) in table {
        assert_eq!(reaches(&policies, from, to, port), expected, "{what} ({port})");
    }
}

#[test]
fn honeycombs_come_in_where_there_are_any() {
    let spec = json!({"honeycomb": {
        "sources": [{"name": "a", "token": {"name": "tokens", "key": "a"}}],
        "exposure": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]}},
    }});
    let input = with_secret(alone(node("eu", spec)), "tokens", &[("a", "0123456789abcdef")]);
    let resources = built(&input).expect("a node");
    let agent = Party::member(&resources.agents);
    assert!(reaches(
        &resources.network_policies,
        &Party::Outside,
        &agent,
        4000
    ));
    let policy = json_of(&resources.network_policies[1]);
    assert!(policy["spec"]["ingress"].to_string().contains("192.0.2.0/24"));
}
