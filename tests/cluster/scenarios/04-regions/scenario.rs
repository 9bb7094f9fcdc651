//! Three nodes are three regions: a `StatefulSet` spreads over them, each pod with its name in DNS and its volume, which
//! outlives the pod.

use std::collections::BTreeSet;

use honeygraph_test_cluster::REGIONS;

use super::stage::Stage;
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "04-regions",
    needs: Needs::Nodes,
    labels: &[],
    run,
};

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("every region has a node", || {
        let labels = stage.run(&[
            "get",
            "nodes",
            r"--output=jsonpath={.items[*].metadata.labels.topology\.kubernetes\.io/region}",
        ])?;
        let regions: BTreeSet<_> = labels.split_whitespace().collect();
        anyhow::ensure!(regions == BTreeSet::from(REGIONS), "the nodes are in {labels}");
        Ok(())
    })?;
    let namespace = stage.create_namespace()?;
    stage.apply("statefulset.yaml", include_str!("statefulset.yaml"))?;
    stage.step("its pods are ready", || {
        stage.run(&["rollout", "status", "statefulset/replica", "--timeout=120s"])
    })?;
    stage.step("each in another region", || {
        let nodes = stage.run(&["get", "pods", "--output=jsonpath={.items[*].spec.nodeName}"])?;
        let nodes: BTreeSet<_> = nodes.split_whitespace().collect();
        anyhow::ensure!(nodes == BTreeSet::from(REGIONS), "the pods are on {nodes:?}");
        Ok(())
    })?;
    stage.eventually("each knows the others by name", || {
        for pod in ["replica-0", "replica-1", "replica-2"] {
            let name = format!("{pod}.replica.{namespace}.svc.cluster.local");
            let address = stage.run(&["get", "pod", pod, "--output=jsonpath={.status.podIP}"])?;
            let answer = stage.run(&["exec", "replica-0", "--", "nslookup", &name])?;
            anyhow::ensure!(answer.contains(&address), "{address} is not in\n{answer}");
        }
        Ok(())
    })?;
    stage.step("one writes to its volume, without rights", || {
        stage.run(&["exec", "replica-1", "--", "sh", "-c", "id -u > /data/user"])
    })?;
    stage.step("that pod is deleted, and another takes its place", || {
        stage.run(&["delete", "pod/replica-1", "--wait", "--timeout=120s"])?;
        stage.run(&["rollout", "status", "statefulset/replica", "--timeout=120s"])
    })?;
    stage.eventually("what was written is there", || {
        let user = stage.run(&["exec", "replica-1", "--", "cat", "/data/user"])?;
        anyhow::ensure!(user.trim() == "65532", "the volume says {user}");
        Ok(())
    })
}
