//! Names and labels of what a node is made of.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

/// Who applies the parts of nodes: the field manager, and the value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "honeygraph-operator";
/// Label with the name of the node that an object belongs to.
pub const NODE_LABEL: &str = "honeygraph.io/node";
/// Label with the network of a node.
pub const NETWORK_LABEL: &str = "honeygraph.io/network";
/// Label with the region of a node.
pub const REGION_LABEL: &str = "honeygraph.io/region";
/// Label with the number of a member among those of its role.
pub const MEMBER_LABEL: &str = "honeygraph.io/member";
/// Label of a claim with its generation: a restore makes claims of the next one.
pub const GENERATION_LABEL: &str = "honeygraph.io/generation";
/// Label that a pod has whose agent writes a Dgraph, with the name of the node that owns that Dgraph.
pub const WRITES_TO_LABEL: &str = "honeygraph.io/writes-to";

const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";
const COMPONENT: &str = "app.kubernetes.io/component";
const PART_OF: &str = "app.kubernetes.io/part-of";
/// Label with who applies an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// What a pod does in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Holds the log and serves it.
    Agent,
    /// Hands out ids and timestamps of Dgraph.
    Zero,
    /// Holds Dgraph's data and answers.
    Alpha,
}

impl Role {
    /// As it stands in names and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Zero => "zero",
            Self::Alpha => "alpha",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A member of a role: the `StatefulSet` of one pod, its pod and its claim are named after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// What it does.
    pub role: Role,
    /// Its number, from 0.
    pub index: u16,
}

/// A node by its name and namespace, and the labels of its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeIdentity {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The network it follows.
    pub network: String,
    /// The region it stands in.
    pub region: String,
    /// The reference that makes an object go with the node.
    pub owner: OwnerReference,
}

impl NodeIdentity {
    /// Name of the `StatefulSet` of a member.
    pub fn member_name(&self, member: Member) -> String {
        format!("{}-{}-{}", self.name, member.role, member.index)
    }

    /// Name of the only pod of a member.
    pub fn pod_name(&self, member: Member) -> String {
        format!("{}-0", self.member_name(member))
    }

    /// Name of the claim of a member in a generation.
    pub fn claim_name(&self, member: Member, generation: u32) -> String {
        format!("{}-g{generation}", self.member_name(member))
    }

    /// Name of the headless Service that gives the pods of a role their names.
    pub fn headless_service(&self, role: Role) -> String {
        format!("{}-{role}", self.name)
    }

    /// Name of the Service that honeycombs of an agent push to.
    pub fn ingest_service(&self, member: Member) -> String {
        format!("{}-ingest-{}", self.name, member.index)
    }

    /// Host name of a member's pod inside the cluster. The search domains of a pod complete it, whatever the domain of
    /// the cluster is.
    pub fn host(&self, member: Member) -> String {
        format!(
            "{}.{}.{}.svc",
            self.pod_name(member),
            self.headless_service(member.role),
            self.namespace
        )
    }

    /// Name of the Secret with what the operator made for the node.
    pub fn credentials(&self) -> String {
        credentials_name(&self.name)
    }

    /// Name of the `ConfigMap` with the dashboard.
    pub fn dashboard(&self) -> String {
        format!("{}-dashboard", self.name)
    }

    /// The labels that select the pods of a role.
    pub fn selector(&self, role: Role) -> BTreeMap<String, String> {
        labels([(NODE_LABEL, self.name.as_str()), (COMPONENT, role.as_str())])
    }

    /// The labels that select the pod of a member.
    pub fn member_selector(&self, member: Member) -> BTreeMap<String, String> {
        let mut selector = self.selector(member.role);
        selector.insert(MEMBER_LABEL.to_owned(), member.index.to_string());
        selector
    }

    /// A selector of the pods of a role.
    pub fn pods(&self, role: Role) -> LabelSelector {
        matching(self.selector(role))
    }

    /// The labels of every part of the node.
    pub fn labels(&self) -> BTreeMap<String, String> {
        labels([
            (NAME, "honeygraph"),
            (INSTANCE, self.name.as_str()),
            (PART_OF, "honeygraph"),
            (MANAGED_BY, MANAGER),
            (NODE_LABEL, self.name.as_str()),
            (NETWORK_LABEL, self.network.as_str()),
            (REGION_LABEL, self.region.as_str()),
        ])
    }

    /// The labels of what belongs to a role.
    pub fn role_labels(&self, role: Role) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert(COMPONENT.to_owned(), role.to_string());
        labels
    }

    /// The labels of what belongs to a member.
    pub fn member_labels(&self, member: Member) -> BTreeMap<String, String> {
        let mut labels = self.role_labels(member.role);
        labels.insert(MEMBER_LABEL.to_owned(), member.index.to_string());
        labels
    }

    /// Metadata of an object that goes with the node.
    pub fn metadata(&self, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }
}

/// Name of the Secret with what the operator made for a node.
pub fn credentials_name(node: &str) -> String {
    format!("{node}-credentials")
}

/// The role that labels tell of.
pub fn role_of(labels: &BTreeMap<String, String>) -> Option<Role> {
    let component = labels.get(COMPONENT)?;
    [Role::Agent, Role::Zero, Role::Alpha]
        .into_iter()
        .find(|role| role.as_str() == component)
}

/// A selector of objects with these labels.
pub fn matching(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

/// Labels from pairs.
pub fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A label and a DNS label take 63 characters, and a pod of a `StatefulSet` gets further ones.
    #[test]
    fn names_at_their_limit_fit() {
        let node = NodeIdentity {
            name: "n".repeat(40),
            namespace: "default".to_owned(),
            network: "dlux".to_owned(),
            region: "eu".to_owned(),
            owner: OwnerReference::default(),
        };
        for role in [Role::Agent, Role::Zero, Role::Alpha] {
            let member = Member { role, index: 31 };
            // The revision hash of a StatefulSet becomes a label of its pods: name, dash, ten characters.
            assert!(node.member_name(member).len() + 11 <= 63);
            assert!(node.pod_name(member).len() <= 63);
            assert!(node.claim_name(member, 999_999).len() <= 63);
            assert!(node.headless_service(role).len() <= 63);
            assert!(node.ingest_service(member).len() <= 63);
        }
        assert!(node.credentials().len() <= 63);
        assert!(node.dashboard().len() <= 63);
    }
}
