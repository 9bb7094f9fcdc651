//! What stands in the cluster of a node, read before anything is applied.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::build::{http_route_kind, pod_monitor_kind, prometheus_rule_kind};
use crate::names::{MANAGED_BY, MANAGER, NODE_LABEL};

/// The objects of a node that the operator made, and the pods that came of them.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Accounts.
    pub service_accounts: Vec<ServiceAccount>,
    /// Secrets.
    pub secrets: Vec<Secret>,
    /// Settings.
    pub config_maps: Vec<ConfigMap>,
    /// Services.
    pub services: Vec<Service>,
    /// Network policies.
    pub network_policies: Vec<NetworkPolicy>,
    /// Disruption budgets.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// Ingresses.
    pub ingresses: Vec<Ingress>,
    /// Objects of kinds that a cluster may not have, with the kinds that it has.
    pub optional: Vec<(ApiResource, Vec<DynamicObject>)>,
    /// Claims.
    pub claims: Vec<PersistentVolumeClaim>,
    /// `StatefulSets` of all roles.
    pub stateful_sets: Vec<StatefulSet>,
    /// Pods of all roles.
    pub pods: Vec<Pod>,
}

/// A kind could not be listed.
#[derive(Debug, Error)]
#[error("failed to list {kind}")]
pub struct ListError {
    kind: String,
    source: kube::Error,
}

/// Reads everything that the operator made for a node.
///
/// # Errors
/// The Kubernetes API did not answer as it should.
pub async fn live(client: &Client, namespace: &str, node: &str) -> Result<Live, ListError> {
    let reader = Reader {
        client,
        namespace,
        selector: format!("{NODE_LABEL}={node},{MANAGED_BY}={MANAGER}"),
    };
    let mut optional = Vec::new();
    for kind in [http_route_kind(), pod_monitor_kind(), prometheus_rule_kind()] {
        if let Some(objects) = reader.list_optional(&kind).await? {
            optional.push((kind, objects));
        }
    }
    Ok(Live {
        service_accounts: reader.list().await?,
        secrets: reader.list().await?,
        config_maps: reader.list().await?,
        services: reader.list().await?,
        network_policies: reader.list().await?,
        disruption_budgets: reader.list().await?,
        ingresses: reader.list().await?,
        optional,
        claims: reader.list().await?,
        stateful_sets: reader.list().await?,
        pods: reader.list().await?,
    })
}

struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
    selector: String,
}

impl Reader<'_> {
    async fn list<K>(&self) -> Result<Vec<K>, ListError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let listed = api.list(&self.parameters()).await;
        listed.map(|list| list.items).map_err(|source| ListError {
            kind: K::plural(&()).into_owned(),
            source,
        })
    }

    /// The objects of a kind; none where the cluster does not have it.
    async fn list_optional(&self, kind: &ApiResource) -> Result<Option<Vec<DynamicObject>>, ListError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), self.namespace, kind);
        match api.list(&self.parameters()).await {
            Ok(list) => Ok(Some(list.items)),
            // A server without the whole group answers in plain text: 404 is all it says.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(source) => Err(ListError {
                kind: kind.plural.clone(),
                source,
            }),
        }
    }

    fn parameters(&self) -> ListParams {
        ListParams::default().labels(&self.selector)
    }
}

/// The object of this name among those of a kind.
pub fn named<'a, K: Resource>(objects: &'a [K], name: &str) -> Option<&'a K> {
    objects.iter().find(|object| object.name_any() == name)
}
