//! What to do about a condition that is not as it should be.

use honeygraph_crds::HoneygraphNode;
use kube::ResourceExt;

use crate::sight::namespace;

/// What to do about a node's condition, by its reason. The reasons are those of the operator (`docs/operator.md`) and, for
/// pods that do not run, those of Kubernetes.
pub fn for_reason(node: &HoneygraphNode, reason: &str) -> String {
    let name = node.name_any();
    let place = format!("-n {}", namespace(node));
    let pods = format!("kubectl {place} describe pods -l honeygraph.io/node={name}");
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => format!(
            "correct spec.agent.image or spec.dgraph.image, or let the machines reach the registry: {pods}"
        ),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            format!("see what the container lacks: {pods}")
        }
        "CrashLoopBackOff" => format!("see why it ends: kubectl honeygraph {place} logs {name} --previous"),
        "Unschedulable" => format!(
            "no machine takes the pod: it lacks room, or the label topology.kubernetes.io/region={}: {pods}",
            node.spec.region
        ),
        "ScaledToZero" => format!("kubectl {place} scale honeygraphnode {name} --replicas=1"),
        "AgentUnreachable" => format!(
            "see its log, and whether the operator reaches port 3031: kubectl honeygraph {place} logs {name}"
        ),
        "AgentHalted" | "Halted" => {
            "find out which side is right before you go on: docs/runbooks.md#honeygraphhalted".to_owned()
        }
        "Partitioned" => format!(
            "most of the votes are out of reach; see which peers do not answer: kubectl honeygraph {place} peers {name}"
        ),
        "DgraphMismatch" => {
            "compare Dgraph with the log and mend it: honeygraph-agent dgraph verify --repair (docs/dgraph.md#by-command)"
                .to_owned()
        }
        "WaitingForDgraph" | "WaitingForZeros" | "WaitingForAlphas" | "WaitingForAgents" | "AgentsNotReady"
        | "RollingOut" => format!("wait if it was just made or changed; else see its pods: {pods}"),
        "NoNetworkHead" => format!(
            "no honeycomb and no peer tells of a head: kubectl honeygraph {place} peers {name}; \
             docs/runbooks.md#honeygraphnosource"
        ),
        "Behind" | "Gaps" => format!(
            "it fetches what is missing by itself; to have it done now: kubectl honeygraph {place} sync {name}"
        ),
        "Conflict" => {
            "see who contradicts whom before you go on: docs/runbooks.md#honeygraphhalted, docs/agreement.md".to_owned()
        }
        "Undecided" | "NoCheckpoint" => format!(
            "the voters have to answer first: kubectl honeygraph {place} peers {name}"
        ),
        "NoAnswer" => format!("see what the agents say: kubectl honeygraph {place} logs {name}"),
        "NameTaken" => {
            "remove the object of that name, or give the node another name".to_owned()
        }
        "VolumeCannotGrow" => {
            "use a storage class that lets volumes grow, or set the former size".to_owned()
        }
        "RefusedByTheCluster" => {
            "a quota, pod security or an admission policy of the namespace refuses it: change that, or the spec".to_owned()
        }
        "SecretMissing" | "SecretKeyMissing" | "SecretUnusable" | "DgraphOwnerMissing" | "DgraphOwnerHasNone"
        | "DgraphOwnerElsewhere" | "DgraphTooOld" | "FieldUnusable" | "NobodyVotes" => {
            format!("do what the message says: kubectl {place} edit honeygraphnode {name}")
        }
        "Suspended" => format!(
            "when it may go on: kubectl {place} patch honeygraphnode {name} --type=merge --patch='{{\"spec\":{{\"suspend\":false}}}}'"
        ),
        _ => format!("kubectl {place} describe honeygraphnode {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::node;

    #[test]
    fn commands_name_the_node_and_its_namespace() {
        let node = node("asia", "asia");
        for reason in [
            "Gaps",
            "CrashLoopBackOff",
            "Unschedulable",
            "SecretMissing",
            "SomethingNew",
        ] {
            let advice = for_reason(&node, reason);
            assert!(advice.contains("-n default"), "{advice}");
            assert!(advice.contains("asia"), "{advice}");
        }
    }

    /// A runbook that is named is there.
    #[test]
    fn the_runbooks_exist() {
        let runbooks = include_str!("../../docs/runbooks.md").to_lowercase();
        for reason in ["Halted", "NoNetworkHead", "Conflict"] {
            let advice = for_reason(&node("asia", "asia"), reason);
            let (_, after) = advice.split_once("runbooks.md#").expect("a runbook");
            let anchor: String = after.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(runbooks.contains(&format!("\n## {anchor}\n")), "{anchor}");
        }
    }
}
