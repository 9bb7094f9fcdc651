//! The Services of a node.

use std::collections::BTreeMap;

use honeygraph_crds::{ServiceExposure, ServiceType};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::agents::{INGEST_PORT, PUBLIC_PORT};
use crate::names::{Member, NodeIdentity, Role};
use crate::node::validate::AgentMember;

/// Gives the pods of a role their names, ready or not: members find each other before they are ready.
pub(super) fn headless(identity: &NodeIdentity, role: Role) -> Service {
    Service {
        metadata: identity.metadata(identity.headless_service(role), identity.role_labels(role)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(identity.selector(role)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// What readers and peers use: any agent that is ready.
pub(super) fn public(identity: &NodeIdentity, exposure: &ServiceExposure) -> Service {
    service(
        identity,
        identity.name.clone(),
        identity.role_labels(Role::Agent),
        identity.selector(Role::Agent),
        ("public", PUBLIC_PORT),
        exposure,
    )
}

/// What the honeycombs of one agent push to. It leads there also while the agent is not ready: it becomes so by what
/// they push.
pub(super) fn ingest(identity: &NodeIdentity, agent: &AgentMember, exposure: &ServiceExposure) -> Service {
    let Member { index, .. } = agent.member;
    let mut exposure = exposure.clone();
    // A port of the machines can be given to one Service alone.
    exposure.node_port = exposure.node_port.filter(|_| index == 0);
    let mut service = service(
        identity,
        identity.ingest_service(agent.member),
        identity.member_labels(agent.member),
        identity.member_selector(agent.member),
        ("ingest", INGEST_PORT),
        &exposure,
    );
    if let Some(spec) = &mut service.spec {
        spec.publish_not_ready_addresses = Some(true);
    }
    service
}

fn service(
    identity: &NodeIdentity,
    name: String,
    labels: BTreeMap<String, String>,
    selector: BTreeMap<String, String>,
    (port_name, port): (&str, u16),
    exposure: &ServiceExposure,
) -> Service {
    let mut metadata = identity.metadata(name, labels);
    metadata.annotations = (!exposure.annotations.is_empty()).then(|| exposure.annotations.clone());
    let ranges = &exposure.load_balancer_source_ranges;
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(
                match exposure.kind {
                    ServiceType::ClusterIP => "ClusterIP",
                    ServiceType::NodePort => "NodePort",
                    ServiceType::LoadBalancer => "LoadBalancer",
                }
                .to_owned(),
            ),
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some(port_name.to_owned()),
                port: i32::from(port),
                target_port: Some(IntOrString::String(port_name.to_owned())),
                protocol: Some("TCP".to_owned()),
                node_port: exposure.node_port,
                ..ServicePort::default()
            }]),
            load_balancer_source_ranges: (!ranges.is_empty()).then(|| ranges.clone()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
