//! Volumes: folders of this machine, as many as are made at the start. There is no provisioner.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::kubectl::Kubectl;
use crate::node::Node;

/// The default storage class.
pub const STORAGE_CLASS: &str = "honeygraph-test";

/// Volumes of each node. One that was used is not used again.
const VOLUMES: usize = 16;

/// What a volume says it holds; nobody counts.
const SIZE: &str = "10Gi";

/// Makes the storage class and the volumes of all nodes.
pub(crate) fn create(kubectl: &Kubectl, nodes: &[Node]) -> anyhow::Result<()> {
    let mut objects = vec![json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "reclaimPolicy": "Retain",
        // A volume is on one node: the scheduler chooses the node first.
        "volumeBindingMode": "WaitForFirstConsumer",
    })];
    for node in nodes {
        for number in 1..=VOLUMES {
            let folder = node.subfolder(&format!("volumes/{number}"))?;
            // As a new disk: pods without rights get it by their `fsGroup`.
            fs::set_permissions(&folder, Permissions::from_mode(0o755))
                .with_context(|| folder.display().to_string())?;
            objects.push(volume(node.name(), number, &folder));
        }
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    kubectl.apply(&list.to_string()).map(drop)
}

fn volume(node: &str, number: usize, folder: &Path) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": format!("{node}-{number}") },
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "capacity": { "storage": SIZE },
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": { "path": folder },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{
                "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }],
            }] } },
        },
    })
}
