//! A node is scaled, suspended, given an image that does not exist, deleted with its data kept, and with its data.

use super::installation::install;
use super::stage::Stage;
use super::three_regions::{agents, agree, api, holds, start};
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "10-node-lifecycle",
    needs: Needs::Nodes,
    labels: &[],
    run,
};

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let images = install(stage)?;
    stage.create_namespace()?;
    let first = start(stage, &images)?;
    agree(stage, first)?;
    scaled(stage)?;
    suspended(stage)?;
    without_image(stage)?;
    holds(stage, "europe", "Ready")?;
    agree(stage, first)?;
    deleted(stage)
}

fn scaled(stage: &Stage) -> anyhow::Result<()> {
    for replicas in [2, 1] {
        stage.step(&format!("scale europe to {replicas}"), || {
            stage.run(&[
                "scale",
                "honeygraphnode/europe",
                &format!("--replicas={replicas}"),
            ])
        })?;
        stage.eventually(&format!("it has {replicas}"), || {
            has_agents(stage, "europe", replicas)
        })?;
    }
    Ok(())
}

fn suspended(stage: &Stage) -> anyhow::Result<()> {
    let suspend = |suspend: bool| {
        let change = format!(r#"{{"spec":{{"suspend":{suspend}}}}}"#);
        stage.run(&["patch", "hgn", "asia", "--type=merge", "--patch", &change])
    };
    stage.step("suspend asia, and scale it", || {
        suspend(true)?;
        stage.run(&["scale", "honeygraphnode/asia", "--replicas=0"])
    })?;
    stage.eventually("it says that it is suspended", || {
        let phase = stage.run(&["get", "hgn", "asia", "--output=jsonpath={.status.phase}"])?;
        anyhow::ensure!(phase == "Suspended", "it is {phase}");
        // What it is to have is left as it is.
        has_agents(stage, "asia", 1)
    })?;
    stage.step("go on with asia", || suspend(false))?;
    stage.eventually("it is scaled now", || has_agents(stage, "asia", 0))?;
    stage.step("scale it back", || {
        stage.run(&["scale", "honeygraphnode/asia", "--replicas=1"])
    })?;
    stage.eventually("it has one again", || has_agents(stage, "asia", 1))?;
    holds(stage, "asia", "Ready")
}

fn without_image(stage: &Stage) -> anyhow::Result<()> {
    let image = |value: &str| {
        let change = format!(r#"{{"spec":{{"agent":{{"image":{value}}}}}}}"#);
        stage.run(&["patch", "hgn", "europe", "--type=merge", "--patch", &change])
    };
    stage.step("europe gets an image that does not exist", || {
        image(r#""honeygraph.test/none:1""#)
    })?;
    holds(stage, "europe", "Stalled")?;
    stage.step("it says which, and the others are well", || {
        let path = r#"--output=jsonpath={.status.conditions[?(@.type=="Stalled")].message}"#;
        let message = stage.run(&["get", "hgn", "europe", path])?;
        anyhow::ensure!(message.contains("honeygraph.test/none:1"), "it says {message}");
        api(stage, "america", "/api/sync/status").map(drop)
    })?;
    stage.step("it gets the right one", || image("null"))?;
    stage.eventually("its agent runs", || has_agents(stage, "europe", 1))
}

fn deleted(stage: &Stage) -> anyhow::Result<()> {
    let manifest = stage.run(&["get", "hgn", "asia", "--output=json"])?;
    let volume = volume(stage)?;
    stage.step("delete asia", || {
        stage.run(&["delete", "hgn", "asia", "--timeout=120s"])
    })?;
    stage.eventually("its pods are gone, its claim is there", || {
        has_agents(stage, "asia", 0)?;
        anyhow::ensure!(self::volume(stage)? == volume, "another volume");
        Ok(())
    })?;
    let again = recreated(&manifest, "Delete")?;
    stage.apply("asia again, whose data goes with it", &again)?;
    holds(stage, "asia", "Ready")?;
    stage.step("it has taken up its volume", || {
        anyhow::ensure!(self::volume(stage)? == volume, "another volume");
        Ok(())
    })?;
    stage.step("delete asia and its data", || {
        stage.run(&["delete", "hgn", "asia", "--timeout=120s"])
    })?;
    stage.eventually("its claim is gone", || {
        let left = self::volume(stage)?;
        anyhow::ensure!(left.is_empty(), "{left} is left");
        Ok(())
    })
}

/// The node as it was applied, with another policy for its volumes.
fn recreated(manifest: &str, policy: &str) -> anyhow::Result<String> {
    let node: serde_json::Value = serde_json::from_str(manifest)?;
    let mut spec = node["spec"].clone();
    spec["volumeDeletionPolicy"] = policy.into();
    Ok(serde_json::json!({
        "apiVersion": node["apiVersion"],
        "kind": node["kind"],
        "metadata": { "name": node["metadata"]["name"] },
        "spec": spec,
    })
    .to_string())
}

/// Whether a node has as many agents, all ready.
fn has_agents(stage: &Stage, node: &str, count: usize) -> anyhow::Result<()> {
    let seen = agents(stage, node, ".metadata.name")?;
    let ready = seen.lines().filter(|line| line.ends_with(" true")).count();
    anyhow::ensure!(ready == count && seen.lines().count() == count, "{seen}");
    Ok(())
}

/// The volume of asia's first agent; empty where it has no claim.
fn volume(stage: &Stage) -> anyhow::Result<String> {
    let name = "asia-agent-0-g1";
    let question = [
        "get",
        "pvc",
        name,
        "--ignore-not-found",
        "--output=jsonpath={.spec.volumeName}",
    ];
    stage.run(&question)
}
