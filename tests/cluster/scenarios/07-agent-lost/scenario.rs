//! An agent is killed, then its claim is deleted: it heals itself, from its own log and from its peers.

use anyhow::Context;
use rustix::process::Signal;
use serde_json::Value;

use super::containers::signal;
use super::installation::install;
use super::stage::Stage;
use super::three_regions::{agree, api, holds, start};
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "07-agent-lost",
    needs: Needs::Nodes,
    labels: &[],
    run,
};

/// The node whose agent is lost, and the agent's pod and claim.
const NODE: &str = "asia";
const POD: &str = "asia-agent-0-0";
const CLAIM: &str = "asia-agent-0-g1";

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let images = install(stage)?;
    stage.create_namespace()?;
    let first = start(stage, &images)?;
    agree(stage, first)?;

    let session = session(stage)?;
    let height = height(stage)?;
    stage.step("the agent of asia is killed with SIGKILL", || {
        signal(POD, Signal::KILL)
    })?;
    stage.eventually("it runs again, and the operator has seen that", || {
        anyhow::ensure!(self::session(stage)? != session, "the session is still {session}");
        Ok(())
    })?;
    stage.eventually("it went on from its log", || {
        let now = self::height(stage)?;
        anyhow::ensure!(now > height, "it is at {now}, and was at {height}");
        whole(stage, first)
    })?;
    agree(stage, first)?;

    let volume = volume(stage)?;
    stage.step("its claim and its pod are deleted", || {
        stage.run(&["delete", "pvc", CLAIM, "--wait=false"])?;
        stage.run(&["delete", "pod", POD, "--timeout=120s"])
    })?;
    stage.eventually("it has a new volume", || {
        let now = self::volume(stage)?;
        anyhow::ensure!(now != volume && !now.is_empty(), "the volume is {now}");
        Ok(())
    })?;
    stage.eventually("it has fetched everything from its peers", || whole(stage, first))?;
    holds(stage, NODE, "Ready")?;
    agree(stage, first)
}

/// What the agent's process calls itself, as the operator tells.
fn session(stage: &Stage) -> anyhow::Result<String> {
    let sessions = "--output=jsonpath={.status.agents[*].sessionId}";
    stage.run(&["get", "honeygraphnode", NODE, sessions])
}

/// The volume of its claim.
fn volume(stage: &Stage) -> anyhow::Result<String> {
    stage.run(&["get", "pvc", CLAIM, "--output=jsonpath={.spec.volumeName}"])
}

fn height(stage: &Stage) -> anyhow::Result<u64> {
    let status = api(stage, NODE, "/api/sync/status")?;
    status["stateHeight"].as_u64().with_context(|| status.to_string())
}

/// Whether it has every block since the start, up to where it stands.
fn whole(stage: &Stage, first: u64) -> anyhow::Result<()> {
    let to = height(stage)?;
    let gaps = api(stage, NODE, &format!("/api/sync/gaps?from={}&to={to}", first + 1))?;
    anyhow::ensure!(gaps["totalMissing"] == Value::from(0), "{gaps}");
    Ok(())
}
