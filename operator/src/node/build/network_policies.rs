//! Who may speak to a node's pods, and whom they may speak to. Whatever is not listed here is denied.

use std::collections::BTreeMap;

use honeygraph_crds::ServiceType;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use url::Url;

use super::agents::{ADMIN_PORT, INGEST_PORT, METRICS_PORT, PUBLIC_PORT};
use super::dgraph::{ALPHA_PORT, ZERO_PORT};
use crate::names::{NODE_LABEL, NodeIdentity, Role, WRITES_TO_LABEL, labels, matching};
use crate::node::validate::{ALPHA_GRPC_PORT, ValidatedNode};
use crate::settings::OperatorPods;

const DNS_PORT: u16 = 53;
/// Ports of honeycombs, gateways and the Hive API; peers may have others, which are added.
const HTTPS_PORTS: [u16; 2] = [80, 443];

/// The policies of a node.
pub(super) fn policies(node: &ValidatedNode, operator: &OperatorPods) -> Vec<NetworkPolicy> {
    let identity = &node.identity;
    let mut policies = vec![nothing(identity), agents(node, operator)];
    if node.dgraph.is_some() {
        policies.push(zeros(identity));
        policies.push(alphas(identity));
    }
    policies
}

/// Every pod of the node: nothing in, nothing out. The others add to it.
fn nothing(identity: &NodeIdentity) -> NetworkPolicy {
    policy(
        identity,
        format!("{}-default", identity.name),
        matching(labels([(NODE_LABEL, identity.name.as_str())])),
        Vec::new(),
        Vec::new(),
    )
}

fn agents(node: &ValidatedNode, operator: &OperatorPods) -> NetworkPolicy {
    let identity = &node.identity;
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(matching(labels([(
            "kubernetes.io/metadata.name",
            operator.namespace.as_str(),
        )]))),
        pod_selector: Some(matching(labels([(
            "app.kubernetes.io/name",
            "honeygraph-operator",
        )]))),
        ip_block: None,
    };
    let mut ingress = vec![
        // Readers and peers, wherever they are.
        from(Vec::new(), &[PUBLIC_PORT]),
        // Only the operator drives agents.
        from(vec![operator], &[ADMIN_PORT]),
        // Whoever scrapes metrics, in any namespace; they hold nothing secret.
        from(vec![any_pod()], &[METRICS_PORT]),
    ];
    if node.agents.members.iter().any(|agent| agent.has_sources) {
        // Honeycombs prove who they are by token or certificate; a load balancer's ranges hold here too.
        let service = &node.ingest.service;
        let ranges = service
            .load_balancer_source_ranges
            .iter()
            .map(|range| block(range))
            .collect();
        let sources = if service.kind == ServiceType::LoadBalancer {
            ranges
        } else {
            Vec::new()
        };
        ingress.push(from(sources, &[INGEST_PORT]));
    }
    let mut egress = vec![dns(), to(Vec::new(), &outward_ports(node))];
    if node.agents.writes_to.is_some() {
        let alphas = labels([
            (NODE_LABEL, node.agents.writes_to.as_deref().unwrap_or_default()),
            ("app.kubernetes.io/component", Role::Alpha.as_str()),
        ]);
        egress.push(to(vec![pods(alphas)], &[ALPHA_GRPC_PORT]));
    }
    policy(
        identity,
        identity.headless_service(Role::Agent),
        identity.pods(Role::Agent),
        ingress,
        egress,
    )
}

fn zeros(identity: &NodeIdentity) -> NetworkPolicy {
    let cluster = || {
        vec![
            pods(identity.selector(Role::Zero)),
            pods(identity.selector(Role::Alpha)),
        ]
    };
    policy(
        identity,
        identity.headless_service(Role::Zero),
        identity.pods(Role::Zero),
        // A seeded copy of another cluster must not find this one, nor this one it.
        vec![from(cluster(), &[ZERO_PORT])],
        vec![dns(), to(cluster(), &[ZERO_PORT, ALPHA_PORT])],
    )
}

fn alphas(identity: &NodeIdentity) -> NetworkPolicy {
    let cluster = || {
        vec![
            pods(identity.selector(Role::Zero)),
            pods(identity.selector(Role::Alpha)),
        ]
    };
    let writers = pods(labels([(WRITES_TO_LABEL, identity.name.as_str())]));
    policy(
        identity,
        identity.headless_service(Role::Alpha),
        identity.pods(Role::Alpha),
        vec![
            from(cluster(), &[ALPHA_PORT]),
            from(vec![writers], &[ALPHA_GRPC_PORT]),
        ],
        vec![dns(), to(cluster(), &[ZERO_PORT, ALPHA_PORT])],
    )
}

/// The ports that agents connect to outside their cluster, and those of their peers inside.
fn outward_ports(node: &ValidatedNode) -> Vec<u16> {
    let peers = node
        .agents
        .members
        .iter()
        .filter_map(|agent| agent.settings.get("PEERS"));
    let listed = peers.flat_map(|peers| peers.split(','));
    let dgraph = node
        .agents
        .settings
        .get("DGRAPH_ALPHA")
        .filter(|_| node.agents.writes_to.is_none());
    let elsewhere = dgraph
        .into_iter()
        .flat_map(|alphas| alphas.split(','))
        .map(|alpha| {
            let port = alpha.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            port.unwrap_or(ALPHA_GRPC_PORT)
        });
    // Peers that are discovered have the usual port, or HTTPS.
    let mut ports: Vec<_> = listed
        .filter_map(|peer| Url::parse(peer).ok()?.port_or_known_default())
        .chain(elsewhere)
        .chain(HTTPS_PORTS)
        .chain([PUBLIC_PORT])
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn policy(
    identity: &NodeIdentity,
    name: String,
    pods: LabelSelector,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: identity.metadata(name, identity.labels()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    }
}

/// From these, or from anywhere where there are none.
fn from(peers: Vec<NetworkPolicyPeer>, ports: &[u16]) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: (!peers.is_empty()).then_some(peers),
        ports: Some(ports.iter().map(|port| tcp(*port)).collect()),
    }
}

/// To these, or to anywhere where there are none.
fn to(peers: Vec<NetworkPolicyPeer>, ports: &[u16]) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: (!peers.is_empty()).then_some(peers),
        ports: Some(ports.iter().map(|port| tcp(*port)).collect()),
    }
}

/// To the name servers of the cluster, which stand in different places in different clusters.
fn dns() -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: None,
        ports: Some(vec![port("UDP", DNS_PORT), port("TCP", DNS_PORT)]),
    }
}

fn tcp(number: u16) -> NetworkPolicyPort {
    port("TCP", number)
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(i32::from(number))),
        end_port: None,
    }
}

fn pods(selector: BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(matching(selector)),
        ..NetworkPolicyPeer::default()
    }
}

fn any_pod() -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    }
}

fn block(range: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: range.to_owned(),
            except: None,
        }),
        ..NetworkPolicyPeer::default()
    }
}
