//! The accounts that pods run under. They have no rights, and no token of theirs is in a pod.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::names::{NodeIdentity, Role};

/// Name of the account of a node's agents.
pub(super) fn agent(identity: &NodeIdentity) -> String {
    format!("{}-agent", identity.name)
}

/// Name of the account of a node's Dgraph.
pub(super) fn dgraph(identity: &NodeIdentity) -> String {
    format!("{}-dgraph", identity.name)
}

/// An account without rights.
pub(super) fn account(identity: &NodeIdentity, name: String, role: Role) -> ServiceAccount {
    ServiceAccount {
        metadata: identity.metadata(name, identity.role_labels(role)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
