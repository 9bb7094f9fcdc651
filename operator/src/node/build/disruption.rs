//! How many members of a role may be away at once when machines are drained.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::names::{NodeIdentity, Role};

/// One of them.
pub(super) fn budget(identity: &NodeIdentity, role: Role) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: identity.metadata(identity.headless_service(role), identity.role_labels(role)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(identity.pods(role)),
            // A pod that is not ready keeps no machine from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
