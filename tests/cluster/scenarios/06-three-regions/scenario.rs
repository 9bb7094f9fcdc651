//! The chart is installed, and three nodes in three regions find each other, become ready and agree.

use std::collections::BTreeSet;

use anyhow::Context;
use honeygraph_test_cluster::REGIONS;
use serde_json::Value;

use super::installation::{Images, install};
use super::stage::Stage;
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "06-three-regions",
    needs: Needs::Nodes,
    labels: &[],
    run: play,
};

/// Blocks above the start whose checkpoints are compared: some periods.
const BLOCKS: u64 = 300;

/// Installs the operator and shows three nodes that agree.
pub(super) fn play(stage: &mut Stage) -> anyhow::Result<()> {
    let images = install(stage)?;
    stage.create_namespace()?;
    let start = start(stage, &images)?;
    agree(stage, start)
}

/// Starts a honeycomb and three nodes, and waits until they are ready. Gives the block that they start from.
pub(super) fn start(stage: &Stage, images: &Images) -> anyhow::Result<u64> {
    let honeycomb = include_str!("honeycomb.yaml").replace("@HONEYCOMB_IMAGE@", &images.honeycomb);
    stage.apply("honeycomb.yaml", &honeycomb)?;
    stage.step("the honeycomb serves its documents", || {
        stage.run(&["rollout", "status", "deployment/honeycomb", "--timeout=120s"])
    })?;
    let log = stage.run(&["logs", "deployment/honeycomb"])?;
    let (checkpoint, block) = log
        .lines()
        .find_map(|line| Some((line, line.split_once(":Qm")?.0.parse().ok()?)))
        .with_context(|| format!("the honeycomb does not say its first checkpoint: {log}"))?;
    let nodes = include_str!("nodes.yaml").replace("@TRUSTED_CHECKPOINT@", checkpoint);
    stage.apply("nodes.yaml", &nodes)?;
    for region in REGIONS {
        holds(stage, region, "Ready")?;
    }
    Ok(block)
}

/// Waits until a condition of a node holds.
pub(super) fn holds(stage: &Stage, node: &str, condition: &str) -> anyhow::Result<()> {
    stage
        .step(&format!("{node}: {condition}"), || {
            let name = format!("honeygraphnode/{node}");
            stage
                .run(&[
                    "wait",
                    &format!("--for=condition={condition}"),
                    &name,
                    "--timeout=180s",
                ])
                .or_else(|error| {
                    let seen = stage.run(&["get", &name, "--output=jsonpath={.status}"])?;
                    Err(error.context(seen))
                })
        })
        .map(drop)
}

/// Waits until all nodes are in step and have the same checkpoints.
pub(super) fn agree(stage: &Stage, start: u64) -> anyhow::Result<()> {
    let compared = format!("/api/sync/anchors?from={}&to={}", start + 1, start + BLOCKS);
    stage.eventually("all have the same blocks and the same state", || {
        let mut seen = BTreeSet::new();
        for region in REGIONS {
            let answer = api(stage, region, &compared)?;
            let anchors = answer["anchors"].as_array().context("no anchors")?;
            anyhow::ensure!(
                anchors.len() == 3,
                "{region} has {} of 3 checkpoints",
                anchors.len()
            );
            let words = anchors.iter().map(|anchor| {
                let word = |name: &str| anchor[name].to_string();
                ["blockNum", "blockHash", "stateHash", "stateDigest"]
                    .map(word)
                    .join(" ")
            });
            seen.insert(words.collect::<Vec<_>>());
        }
        anyhow::ensure!(seen.len() == 1, "they differ: {seen:#?}");
        Ok(())
    })?;
    stage.eventually("each knows the others", || {
        for region in REGIONS {
            let peers = api(stage, region, "/api/sync/peers")?;
            anyhow::ensure!(
                peers.as_array().is_some_and(|peers| peers.len() >= 2),
                "{region}: {peers}"
            );
        }
        Ok(())
    })?;
    for region in REGIONS {
        for condition in ["Synced", "StateVerified", "ForkSafe"] {
            holds(stage, region, condition)?;
        }
    }
    Ok(())
}

/// An answer of a node's public API, by way of the API server.
pub(super) fn api(stage: &Stage, node: &str, path: &str) -> anyhow::Result<Value> {
    let namespace = stage.namespace();
    let path = format!("/api/v1/namespaces/{namespace}/services/{node}:3030/proxy{path}");
    let answer = stage.run(&["get", "--raw", &path])?;
    serde_json::from_str(&answer).with_context(|| format!("{path}: {answer}"))
}

/// A line for each agent of a node: what its pod has at a path, and whether it is ready.
pub(super) fn agents(stage: &Stage, node: &str, path: &str) -> anyhow::Result<String> {
    let selector = format!("--selector=honeygraph.io/node={node},app.kubernetes.io/component=agent");
    let output = format!(
        r#"--output=jsonpath={{range .items[*]}}{{{path}}} {{.status.containerStatuses[0].ready}}{{"\n"}}{{end}}"#
    );
    stage.run(&["get", "pods", &selector, &output])
}
