//! The third step of a reconcile: from a validated node to the objects that it is made of. Pure.

mod accounts;
pub mod agents;
mod dgraph;
mod disruption;
mod exposure;
mod hash;
mod monitoring;
mod network_policies;
mod pod;
mod services;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DynamicObject};

pub use exposure::http_route_kind;
pub use hash::Fingerprint;
pub use monitoring::{pod_monitor_kind, prometheus_rule_kind};

use super::validate::{DgraphMembers, ValidatedNode};
use crate::names::Role;
use crate::settings::OperatorPods;

/// The objects that a node is made of. They are applied in this order; the `StatefulSets` last, those of Dgraph first.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// Accounts without rights.
    pub service_accounts: Vec<ServiceAccount>,
    /// Tokens.
    pub secrets: Vec<Secret>,
    /// Settings.
    pub config_maps: Vec<ConfigMap>,
    /// Names and ways in.
    pub services: Vec<Service>,
    /// Who may speak to whom.
    pub network_policies: Vec<NetworkPolicy>,
    /// How many may be away at once.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// Ways in from outside.
    pub ingresses: Vec<Ingress>,
    /// Objects of kinds that a cluster may not have.
    pub optional: Vec<(ApiResource, DynamicObject)>,
    /// Volumes.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Zeros of Dgraph.
    pub zeros: Vec<StatefulSet>,
    /// Alphas of Dgraph.
    pub alphas: Vec<StatefulSet>,
    /// Agents.
    pub agents: Vec<StatefulSet>,
}

/// Builds a node. `secrets` are those that its spec names, and `credentials` is the one that the operator made.
pub fn build(
    node: &ValidatedNode,
    secrets: &BTreeMap<String, Secret>,
    credentials: Secret,
    operator: &OperatorPods,
) -> Resources {
    let identity = &node.identity;
    let mut known = secrets.clone();
    known.insert(identity.credentials(), credentials.clone());
    let mut resources = Resources {
        secrets: vec![credentials],
        network_policies: network_policies::policies(node, operator),
        ..Resources::default()
    };
    add_agents(&mut resources, node, &known);
    add_dgraph(&mut resources, node, &known);
    add_ways_in(&mut resources, node);
    add_monitoring(&mut resources, node);
    resources
}

fn add_agents(resources: &mut Resources, node: &ValidatedNode, secrets: &BTreeMap<String, Secret>) {
    let identity = &node.identity;
    resources.service_accounts.push(accounts::account(
        identity,
        accounts::agent(identity),
        Role::Agent,
    ));
    resources.services.push(services::headless(identity, Role::Agent));
    resources
        .disruption_budgets
        .push(disruption::budget(identity, Role::Agent));
    for agent in &node.agents.members {
        let (member, generation) = (agent.member, agent.claim_generation);
        resources
            .config_maps
            .push(agents::config_map(identity, &node.agents, agent));
        resources.secrets.extend(agents::sources_secret(identity, agent));
        resources.claims.push(pod::claim(
            identity,
            member,
            generation,
            &node.agents.storage,
            node.volumes,
        ));
        resources
            .agents
            .push(agents::stateful_set(identity, &node.agents, agent, secrets));
    }
}

fn add_dgraph(resources: &mut Resources, node: &ValidatedNode, secrets: &BTreeMap<String, Secret>) {
    let Some(dgraph) = &node.dgraph else {
        return;
    };
    let identity = &node.identity;
    resources.service_accounts.push(accounts::account(
        identity,
        accounts::dgraph(identity),
        Role::Alpha,
    ));
    for role in [Role::Zero, Role::Alpha] {
        resources.services.push(services::headless(identity, role));
        resources
            .disruption_budgets
            .push(disruption::budget(identity, role));
    }
    let claims = |members: &DgraphMembers| -> Vec<_> {
        let of = |(member, generation): &(_, _)| {
            pod::claim(identity, *member, *generation, &members.storage, node.volumes)
        };
        members.members.iter().map(of).collect()
    };
    resources.claims.extend(claims(&dgraph.zeros));
    resources.claims.extend(claims(&dgraph.alphas));
    for (member, generation) in &dgraph.zeros.members {
        resources
            .zeros
            .push(dgraph::zero(identity, dgraph, *member, *generation, secrets));
    }
    for (member, generation) in &dgraph.alphas.members {
        resources
            .alphas
            .push(dgraph::alpha(identity, dgraph, *member, *generation, secrets));
    }
}

fn add_monitoring(resources: &mut Resources, node: &ValidatedNode) {
    let (identity, wanted) = (&node.identity, &node.monitoring);
    if wanted.pod_monitor.enabled {
        let monitor = monitoring::pod_monitor(identity, &wanted.pod_monitor);
        resources.optional.push((pod_monitor_kind(), monitor));
    }
    if wanted.rules.enabled {
        let rule = monitoring::prometheus_rule(identity, &wanted.rules);
        resources.optional.push((prometheus_rule_kind(), rule));
    }
    if wanted.dashboard {
        resources.config_maps.push(monitoring::dashboard_map(identity));
    }
}

fn add_ways_in(resources: &mut Resources, node: &ValidatedNode) {
    let identity = &node.identity;
    let public = &node.exposure;
    resources
        .services
        .push(services::public(identity, &public.service));
    let mut ways = vec![(
        identity.name.clone(),
        ("public", agents::PUBLIC_PORT),
        &public.ingress,
        &public.http_route,
    )];
    for agent in node.agents.members.iter().filter(|agent| agent.has_sources) {
        resources
            .services
            .push(services::ingest(identity, agent, &node.ingest.service));
        // One host name leads to one agent: the first.
        if agent.member.index == 0 {
            let name = identity.ingest_service(agent.member);
            ways.push((
                name,
                ("ingest", agents::INGEST_PORT),
                &node.ingest.ingress,
                &node.ingest.http_route,
            ));
        }
    }
    for (service, (port_name, port), ingress, route) in ways {
        if let Some(ingress) = ingress {
            resources
                .ingresses
                .push(exposure::ingress(identity, &service, port_name, ingress));
        }
        if let Some(route) = route {
            let route = exposure::http_route(identity, &service, port, route);
            resources.optional.push((http_route_kind(), route));
        }
    }
}
