//! The cluster ends while pods run, and this machine is as it was before: processes, mounts, devices, tables, folder.

use std::fs;
use std::process::Command;

use anyhow::Context;
use honeygraph_test_cluster::conditions;

use super::killed_harness::nothing_is_left;
use super::stage::Stage;
use super::{Label, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "90-disruptive-end",
    needs: Needs::Nodes,
    labels: &[Label::Disruptive],
    run,
};

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    stage.create_namespace()?;
    stage.apply("pods.yaml", include_str!("pods.yaml"))?;
    stage.step("its pods are ready", || {
        stage.run(&["rollout", "status", "deployment/sleeper", "--timeout=120s"])
    })?;
    let us = i32::try_from(std::process::id())?;
    let condition = conditions()?
        .into_iter()
        .find(|condition| condition.user == Some(us))
        .context("the cluster is not listed")?;
    let folder = condition.folder.display().to_string();
    stage.step("it has taken much of this machine", || {
        anyhow::ensure!(
            fs::read_to_string("/proc/self/mountinfo")?.contains(&folder),
            "no mounts"
        );
        anyhow::ensure!(network()?.contains("hgcluster"), "no network");
        Ok(())
    })?;
    let cluster = stage.take_cluster()?;
    stage.step("end it", || cluster.end())?;
    stage.step("nothing of it is left", || {
        nothing_is_left(&condition)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        anyhow::ensure!(!mounts.contains(&folder), "mounts are left:\n{mounts}");
        let network = network()?;
        for trace in ["hgcluster", "198.19.", "kube-proxy"] {
            anyhow::ensure!(!network.contains(trace), "{trace} is left:\n{network}");
        }
        for groups in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"] {
            let group = format!("{groups}/honeygraph-test-cluster");
            anyhow::ensure!(!fs::exists(&group)?, "{group} is left");
        }
        Ok(())
    })
}

/// Devices, routes, rules and tables of this machine.
fn network() -> anyhow::Result<String> {
    let mut seen = String::new();
    for command in [
        "ip link",
        "ip -4 route show table all",
        "iptables -S",
        "nft list tables",
    ] {
        let mut words = command.split(' ');
        let program = words.next().unwrap_or_default();
        let output = Command::new(program)
            .args(words)
            .output()
            .with_context(|| command.to_owned())?;
        seen.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    Ok(seen)
}
