//! How a node goes: agents first, then alphas, then zeros, each when the ones before are gone. With a writer active,
//! alphas and zeros that are stopped at once hang (seen in 4 of 4 tries with Dgraph 25).

use honeygraph_crds::HoneygraphNode;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use thiserror::Error;

use super::apply::Waiting;
use super::live::Live;
use super::validate::owns_dgraph;
use crate::names::Role;

/// Keeps a node that owns a Dgraph until that is stopped in order. No other node has it.
const FINALIZER: &str = "honeygraph.io/ordered-stop";

/// Why a node could not be stopped.
#[derive(Debug, Error)]
pub enum StopError {
    /// The finalizer could not be set or taken away.
    #[error("failed to change the finalizers")]
    Finalizer(#[source] kube::Error),
    /// A `StatefulSet` could not be removed.
    #[error("failed to remove StatefulSet {name}")]
    Remove {
        /// Its name.
        name: String,
        /// The cause.
        source: kube::Error,
    },
}

/// Sees to it that a node which owns a Dgraph is not gone before that is stopped.
///
/// # Errors
/// The finalizer could not be set.
pub async fn prepare(client: &Client, node: &HoneygraphNode) -> Result<(), StopError> {
    let wanted = owns_dgraph(node);
    let has = node.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if wanted && !has {
        set_finalizer(client, node, true).await?;
    }
    Ok(())
}

/// Takes a node down as far as its order allows now; says what is waited for, or none when it may go.
///
/// # Errors
/// As [`StopError`] says.
pub async fn stop(client: &Client, node: &HoneygraphNode, live: &Live) -> Result<Option<Waiting>, StopError> {
    if !node.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(None);
    }
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), &node.namespace().unwrap_or_default());
    for role in [Role::Agent, Role::Alpha, Role::Zero] {
        let is_of =
            |labels: &std::collections::BTreeMap<String, String>| crate::names::role_of(labels) == Some(role);
        for set in live.stateful_sets.iter().filter(|set| is_of(set.labels())) {
            let name = set.name_any();
            match api.delete(&name, &DeleteParams::foreground()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(source) => return Err(StopError::Remove { name, source }),
                Ok(_) => {}
            }
        }
        let pods: Vec<_> = live
            .pods
            .iter()
            .filter(|pod| is_of(pod.labels()))
            .map(ResourceExt::name_any)
            .collect();
        let sets = live.stateful_sets.iter().any(|set| is_of(set.labels()));
        if sets || !pods.is_empty() {
            return Ok(Some(Waiting {
                reason: "Stopping",
                message: format!("waiting until the pods of {role} are gone: {}", pods.join(", ")),
            }));
        }
    }
    set_finalizer(client, node, false).await?;
    Ok(None)
}

async fn set_finalizer(client: &Client, node: &HoneygraphNode, present: bool) -> Result<(), StopError> {
    let mut finalizers: Vec<_> = node
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .cloned()
        .collect();
    if present {
        finalizers.push(FINALIZER.to_owned());
    }
    // With the version, so that a finalizer that another set meanwhile is not lost.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": node.resource_version()}});
    let api: Api<HoneygraphNode> = Api::namespaced(client.clone(), &node.namespace().unwrap_or_default());
    match api
        .patch_metadata(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(StopError::Finalizer(error)),
        Ok(_) => Ok(()),
    }
}
