//! What the pods of every role have in common: who they run as, where they run, what they may do.

use std::collections::BTreeMap;

use honeygraph_crds::{DeletionPolicy, ResourceRequirements, Storage};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, HTTPGetAction, NodeAffinity, NodeSelectorRequirement,
    NodeSelectorTerm, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, PodTemplateSpec, PreferredSchedulingTerm, Probe, SeccompProfile,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::names::{GENERATION_LABEL, Member, NodeIdentity, matching};

/// User and group that every pod runs as, a number so that Kubernetes can see that it is not root.
const USER: i64 = 65_532;
/// Name of the volume with a member's data.
pub(super) const DATA_VOLUME: &str = "data";
/// Annotation with the hash of the configuration and the Secrets that a pod was started with.
pub(super) const CONFIGURATION_ANNOTATION: &str = "honeygraph.io/configuration";

/// What a member's pod is made of beyond what all have.
#[derive(Debug)]
pub(super) struct Pod {
    /// Its only container.
    pub container: Container,
    /// Volumes beside that with the data.
    pub volumes: Vec<Volume>,
    /// Its claim.
    pub claim: String,
    /// Hash of its configuration and Secrets.
    pub configuration: String,
    /// Labels beside those of the member.
    pub labels: BTreeMap<String, String>,
    /// Time to end after SIGTERM.
    pub grace_seconds: i64,
    /// Its priority.
    pub priority_class: Option<String>,
    /// The account that it runs under.
    pub service_account: String,
}

/// The `StatefulSet` of one member. It has no template of a claim, since those cannot be changed: a restored or grown
/// volume is another or a changed claim by name.
pub(super) fn stateful_set(identity: &NodeIdentity, member: Member, pod: Pod) -> StatefulSet {
    let labels = identity.member_labels(member);
    let mut pod_labels = labels.clone();
    pod_labels.extend(pod.labels);
    let mut volumes = vec![Volume {
        name: DATA_VOLUME.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: pod.claim,
            read_only: None,
        }),
        ..Volume::default()
    }];
    volumes.extend(pod.volumes);
    StatefulSet {
        metadata: identity.metadata(identity.member_name(member), labels),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(identity.headless_service(member.role)),
            selector: matching(identity.member_selector(member)),
            revision_history_limit: Some(3),
            // With the other policy a pod that does not become ready is never replaced by a corrected one.
            pod_management_policy: Some("Parallel".to_owned()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(BTreeMap::from([(
                        CONFIGURATION_ANNOTATION.to_owned(),
                        pod.configuration,
                    )])),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    containers: vec![pod.container],
                    volumes: Some(volumes),
                    affinity: Some(affinity(&identity.region)),
                    topology_spread_constraints: Some(spread(identity, member)),
                    security_context: Some(pod_security()),
                    service_account_name: Some(pod.service_account),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    termination_grace_period_seconds: Some(pod.grace_seconds),
                    priority_class_name: pod.priority_class,
                    ..PodSpec::default()
                }),
            },
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// The claim of a member. It has an owner only where it goes with the node.
pub(super) fn claim(
    identity: &NodeIdentity,
    member: Member,
    generation: u32,
    storage: &Storage,
    policy: DeletionPolicy,
) -> PersistentVolumeClaim {
    let mut labels = identity.member_labels(member);
    labels.insert(GENERATION_LABEL.to_owned(), generation.to_string());
    let mut metadata = identity.metadata(identity.claim_name(member, generation), labels);
    if policy == DeletionPolicy::Retain {
        metadata.owner_references = None;
    }
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage.size.clone())])),
                limits: None,
            }),
            storage_class_name: storage.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// Machines of the node's region are preferred, not required: a cluster need not label its machines, and a claim keeps
/// its pod where its volume is anyhow.
fn affinity(region: &str) -> Affinity {
    Affinity {
        node_affinity: Some(NodeAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![PreferredSchedulingTerm {
                weight: 100,
                preference: NodeSelectorTerm {
                    match_expressions: Some(vec![NodeSelectorRequirement {
                        key: "topology.kubernetes.io/region".to_owned(),
                        operator: "In".to_owned(),
                        values: Some(vec![region.to_owned()]),
                    }]),
                    match_fields: None,
                },
            }]),
            required_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

/// Members of a role stand in different zones and on different machines where there are several.
fn spread(identity: &NodeIdentity, member: Member) -> Vec<TopologySpreadConstraint> {
    ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        .into_iter()
        .map(|topology| TopologySpreadConstraint {
            max_skew: 1,
            topology_key: topology.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(identity.pods(member.role)),
            ..TopologySpreadConstraint::default()
        })
        .collect()
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A volume of many files is not walked at every start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// What no container may do.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(vec!["ALL".to_owned()]),
        }),
        ..SecurityContext::default()
    }
}

/// Resources as a container has them; none where nothing is asked for.
pub(super) fn resources(
    wanted: &ResourceRequirements,
) -> Option<k8s_openapi::api::core::v1::ResourceRequirements> {
    let some = |quantities: &BTreeMap<_, _>| (!quantities.is_empty()).then(|| quantities.clone());
    let resources = k8s_openapi::api::core::v1::ResourceRequirements {
        requests: some(&wanted.requests),
        limits: some(&wanted.limits),
        claims: None,
    };
    (resources.requests.is_some() || resources.limits.is_some()).then_some(resources)
}

/// A probe that asks for a page.
pub(super) fn http_probe(path: &str, port: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(port.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Where a volume stands in a container.
pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
