//! The fourth step of a reconcile: what stands in the cluster is made to say what was built.
//!
//! An object that says it already is not written. `StatefulSets` come last: zeros, then alphas, then agents, and of
//! each role one at a time, so that a change that does not come up stops there.

mod roll;

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use kube_quantity::ParsedQuantity;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use tracing::{debug, info};

pub use roll::{is_ready, turn};

use super::build::{Fingerprint, Resources};
use super::live::{Live, named};
use crate::drift::first_difference;
use crate::names::{MANAGED_BY, MANAGER, Role};

/// Annotation with the hash of what was applied.
const APPLIED_ANNOTATION: &str = "honeygraph.io/applied";

/// What a reconcile found still to be done: a role, and what is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// One word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Why an object could not be applied.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The Kubernetes API refused it or did not answer as it should.
    #[error("failed to apply {object}: {source}")]
    Refused {
        /// Kind and name.
        object: String,
        /// The cause.
        source: kube::Error,
    },
    /// An object of that name is there, and the operator did not make it.
    #[error("{object} exists and was not made by this operator; delete or rename it, or rename the node")]
    NotOurs {
        /// Kind and name.
        object: String,
    },
    /// An object that is no longer wanted could not be removed.
    #[error("failed to remove {object}")]
    NotRemoved {
        /// Kind and name.
        object: String,
        /// The cause.
        source: kube::Error,
    },
    /// The storage class lets no volume grow.
    #[error("{object} cannot grow to {size}: {reason}")]
    CannotGrow {
        /// Kind and name.
        object: String,
        /// The size that is wanted.
        size: String,
        /// What the Kubernetes API says.
        reason: String,
    },
}

impl ApplyError {
    /// The reason in one word, where trying again does not help before somebody changes something.
    pub fn needs_a_person(&self) -> Option<&'static str> {
        match self {
            Self::NotOurs { .. } => Some("NameTaken"),
            Self::CannotGrow { .. } => Some("VolumeCannotGrow"),
            // 422: what was built is not allowed, be it by the schema or by an admission policy; 403: by a quota or
            // by pod security.
            Self::Refused {
                source: kube::Error::Api(status),
                ..
            } if status.code == 422 || status.code == 403 => Some("RefusedByTheCluster"),
            Self::Refused { .. } | Self::NotRemoved { .. } => None,
        }
    }
}

/// Applies what was built for a node, as far as its order allows now, and removes what is left of before.
///
/// # Errors
/// As [`ApplyError`] says; what was applied until then stays.
pub async fn apply(
    client: &Client,
    namespace: &str,
    wanted: Resources,
    live: &Live,
) -> Result<Vec<Waiting>, ApplyError> {
    let Resources {
        service_accounts,
        secrets,
        config_maps,
        services,
        network_policies,
        disruption_budgets,
        ingresses,
        optional,
        claims,
        zeros,
        alphas,
        agents,
    } = wanted;
    let applier = Applier { client, namespace };
    applier.all(&service_accounts, &live.service_accounts).await?;
    applier.all(&secrets, &live.secrets).await?;
    applier.all(&config_maps, &live.config_maps).await?;
    applier.all(&services, &live.services).await?;
    applier.all(&network_policies, &live.network_policies).await?;
    applier.all(&disruption_budgets, &live.disruption_budgets).await?;
    applier.all(&ingresses, &live.ingresses).await?;
    for (kind, objects) in &live.optional {
        let wanted: Vec<_> = optional
            .iter()
            .filter(|(of, _)| of == kind)
            .map(|(_, object)| object.clone())
            .collect();
        applier.all_of_kind(kind, &wanted, objects).await?;
    }
    for claim in &claims {
        applier
            .claim(claim, named(&live.claims, &claim.name_any()))
            .await?;
    }

    let mut waiting = Vec::new();
    let kept: Vec<_> = [&zeros, &alphas, &agents]
        .into_iter()
        .flatten()
        .map(ResourceExt::name_any)
        .collect();
    applier
        .stages(
            [(Role::Zero, zeros), (Role::Alpha, alphas), (Role::Agent, agents)],
            live,
            &mut waiting,
        )
        .await?;
    let api = Api::namespaced(client.clone(), namespace);
    for orphan in live
        .stateful_sets
        .iter()
        .filter(|set| !kept.contains(&set.name_any()))
    {
        remove(&api, "StatefulSet", orphan).await?;
    }
    Ok(waiting)
}

struct Applier<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Applier<'_> {
    /// Applies the objects of a kind, and removes those that are no longer wanted.
    async fn all<K>(&self, wanted: &[K], live: &[K]) -> Result<(), ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        for object in wanted {
            self.one(object, named(live, &object.name_any())).await?;
        }
        let api = Api::namespaced(self.client.clone(), self.namespace);
        for orphan in live
            .iter()
            .filter(|live| named(wanted, &live.name_any()).is_none())
        {
            remove(&api, &K::kind(&()), orphan).await?;
        }
        Ok(())
    }

    /// The same for a kind that is known by its name alone.
    async fn all_of_kind(
        &self,
        kind: &ApiResource,
        wanted: &[DynamicObject],
        live: &[DynamicObject],
    ) -> Result<(), ApplyError> {
        let api = Api::namespaced_with(self.client.clone(), self.namespace, kind);
        for object in wanted {
            write(&api, &kind.kind, object, named(live, &object.name_any())).await?;
        }
        for orphan in live
            .iter()
            .filter(|live| named(wanted, &live.name_any()).is_none())
        {
            remove(&api, &kind.kind, orphan).await?;
        }
        Ok(())
    }

    async fn one<K>(&self, wanted: &K, live: Option<&K>) -> Result<(), ApplyError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let api = Api::namespaced(self.client.clone(), self.namespace);
        write(&api, &K::kind(&()), wanted, live).await
    }

    /// Claims grow and never shrink: one that somebody made larger stays so.
    async fn claim(
        &self,
        wanted: &PersistentVolumeClaim,
        live: Option<&PersistentVolumeClaim>,
    ) -> Result<(), ApplyError> {
        let mut wanted = wanted.clone();
        if let Some(larger) = live.filter(|live| size(live) > size(&wanted)) {
            let requests = larger.spec.as_ref().and_then(|spec| spec.resources.clone());
            if let Some(spec) = &mut wanted.spec {
                spec.resources = requests;
            }
        }
        let grows = live.is_some_and(|live| size(live) < size(&wanted));
        match self.one(&wanted, live).await {
            Err(ApplyError::Refused {
                object,
                source: kube::Error::Api(status),
            }) if grows && (status.code == 403 || status.code == 422) => Err(ApplyError::CannotGrow {
                object,
                size: requested(&wanted).map(|size| size.0.clone()).unwrap_or_default(),
                reason: status.message,
            }),
            applied => applied,
        }
    }

    /// Applies the `StatefulSets` role by role: a role is begun when all of the one before are ready.
    async fn stages(
        &self,
        stages: [(Role, Vec<StatefulSet>); 3],
        live: &Live,
        waiting: &mut Vec<Waiting>,
    ) -> Result<(), ApplyError> {
        for (role, wanted) in stages {
            // What exists already is not held up by what comes before it: an agent is repaired while Dgraph is down.
            let begun = wanted
                .iter()
                .any(|set| named(&live.stateful_sets, &set.name_any()).is_some());
            let goes_on = waiting.is_empty() || (role == Role::Agent && begun);
            if !goes_on {
                break;
            }
            let outdated = |set: &StatefulSet| {
                let live = named(&live.stateful_sets, &set.name_any());
                live.is_none_or(|live| is_outdated(set, live))
            };
            for set in turn(&wanted, &live.stateful_sets, outdated) {
                self.one(set, named(&live.stateful_sets, &set.name_any())).await?;
            }
            let unready: Vec<_> = wanted
                .iter()
                .map(ResourceExt::name_any)
                .filter(|name| !named(&live.stateful_sets, name).is_some_and(is_ready))
                .collect();
            let changing: Vec<_> = wanted
                .iter()
                .filter(|set| outdated(set))
                .map(ResourceExt::name_any)
                .collect();
            if !unready.is_empty() {
                waiting.push(Waiting {
                    reason: match role {
                        Role::Zero => "WaitingForZeros",
                        Role::Alpha => "WaitingForAlphas",
                        Role::Agent => "WaitingForAgents",
                    },
                    message: format!("waiting until these are ready: {}", unready.join(", ")),
                });
            } else if !changing.is_empty() {
                waiting.push(Waiting {
                    reason: "RollingOut",
                    message: format!("changing one after the other: {}", changing.join(", ")),
                });
            }
        }
        Ok(())
    }
}

/// Applies an object unless the cluster has it just so. Says whether it was written.
async fn write<K>(api: &Api<K>, kind: &str, wanted: &K, live: Option<&K>) -> Result<(), ApplyError>
where
    K: Resource + Serialize + DeserializeOwned + Clone + Debug,
{
    let name = wanted.name_any();
    let object = format!("{kind} {name}");
    let refused = |source| ApplyError::Refused {
        object: object.clone(),
        source,
    };
    let Some(wanted) = Stamped::new(wanted) else {
        return Ok(());
    };
    match live {
        Some(live) if !wanted.differs(live) => return Ok(()),
        Some(_) => {}
        None => {
            let existing = api.get_metadata_opt(&name).await.map_err(refused)?;
            let stranger = existing.is_some_and(|existing| {
                existing.labels().get(MANAGED_BY).map(String::as_str) != Some(MANAGER)
            });
            if stranger {
                return Err(ApplyError::NotOurs { object });
            }
        }
    }
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch(&name, &parameters, &Patch::Apply(&wanted.0))
        .await
        .map_err(refused)?;
    info!(%object, namespace = wanted.namespace(), "applied");
    Ok(())
}

async fn remove<K>(api: &Api<K>, kind: &str, orphan: &K) -> Result<(), ApplyError>
where
    K: Resource + DeserializeOwned + Clone + Debug,
{
    let name = orphan.name_any();
    let object = format!("{kind} {name}");
    info!(%object, namespace = orphan.namespace(), "removing what is no longer wanted");
    // Another object of the same name that came meanwhile stays.
    let parameters = DeleteParams::background().preconditions(Preconditions {
        uid: orphan.uid(),
        resource_version: None,
    });
    match api.delete(&name, &parameters).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(ApplyError::NotRemoved { object, source }),
        Ok(_) => Ok(()),
    }
}

/// An object as it is applied, with the hash of itself.
struct Stamped(Value);

impl Stamped {
    /// None for what cannot be written as JSON, which no object of Kubernetes is.
    fn new<K: Serialize>(object: &K) -> Option<Self> {
        let mut object = serde_json::to_value(object).ok()?;
        let mut fingerprint = Fingerprint::default();
        fingerprint.add("object", &object);
        let annotations = object.get_mut("metadata")?.as_object_mut()?;
        let annotations = annotations.entry("annotations").or_insert_with(|| json!({}));
        annotations[APPLIED_ANNOTATION] = json!(fingerprint.finish());
        Some(Self(object))
    }

    fn namespace(&self) -> &str {
        self.0["metadata"]["namespace"].as_str().unwrap_or_default()
    }

    fn differs<K: Serialize>(&self, live: &K) -> bool {
        let Ok(live) = serde_json::to_value(live) else {
            return true;
        };
        let difference = first_difference(&live, &self.0);
        if let Some(field) = &difference {
            debug!(%field, "differs from what is wanted");
        }
        difference.is_some()
    }
}

/// Whether an object in the cluster does not say what is wanted.
fn is_outdated<K: Serialize>(wanted: &K, live: &K) -> bool {
    Stamped::new(wanted).is_some_and(|wanted| wanted.differs(live))
}

/// The size that a claim asks for.
fn requested(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage")
}

fn size(claim: &PersistentVolumeClaim) -> Option<ParsedQuantity> {
    ParsedQuantity::try_from(requested(claim)?).ok()
}
