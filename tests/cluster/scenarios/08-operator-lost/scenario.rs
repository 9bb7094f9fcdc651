//! Operators are killed in the middle of a roll-out, and the one that leads is paused: work goes on.

use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;

use super::containers::signal;
use super::installation::{NAMESPACE, install, operators_work};
use super::stage::Stage;
use super::three_regions::{agents, agree, holds, start};
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "08-operator-lost",
    needs: Needs::Nodes,
    labels: &[],
    run,
};

/// Longest wait for operators that come after others.
const LONGEST: Duration = Duration::from_mins(3);

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let images = install(stage)?;
    stage.create_namespace()?;
    let first = start(stage, &images)?;
    stage.step("europe gets a second agent", || {
        stage.run(&["scale", "honeygraphnode/europe", "--replicas=2"])
    })?;
    stage.eventually("both run", || rolled_out(stage, "info"))?;

    stage.step(
        "europe is to be rolled out, and both operators are killed",
        || {
            set_log(stage, "debug")?;
            for pod in operators(stage)? {
                signal(&pod, Signal::KILL)?;
            }
            Ok(())
        },
    )?;
    stage.eventually("those that come after them finish it", || {
        rolled_out(stage, "debug")
    })?;
    operators_work(stage, LONGEST)?;

    let leader = leader(stage)?;
    stage.step(&format!("{leader}, which leads, is paused"), || {
        signal(&leader, Signal::STOP)
    })?;
    let taken_over = set_log(stage, "info").and_then(|()| {
        stage.eventually("the other one leads, and rolls out what is new", || {
            let now = self::leader(stage)?;
            anyhow::ensure!(now != leader, "{leader} leads still");
            rolled_out(stage, "info")
        })
    });
    stage.step("it goes on", || signal(&leader, Signal::CONT))?;
    taken_over?;
    stage.eventually("it does not lead any more", || {
        anyhow::ensure!(self::leader(stage)? != leader, "{leader} leads again");
        Ok(())
    })?;
    operators_work(stage, LONGEST)?;
    holds(stage, "europe", "Ready")?;
    agree(stage, first)
}

/// Changes how europe's agents log, which restarts them one after the other.
fn set_log(stage: &Stage, level: &str) -> anyhow::Result<()> {
    let path = "/spec/agent/env/-";
    let add = format!(r#"[{{"op":"add","path":"{path}","value":{{"name":"LOG","value":"{level}"}}}}]"#);
    let names = stage.run(&[
        "get",
        "hgn",
        "europe",
        "--output=jsonpath={.spec.agent.env[*].name}",
    ])?;
    let change = match names.split(' ').position(|name| name == "LOG") {
        None => add,
        Some(at) => format!(r#"[{{"op":"replace","path":"/spec/agent/env/{at}/value","value":"{level}"}}]"#),
    };
    stage
        .run(&["patch", "hgn", "europe", "--type=json", "--patch", &change])
        .map(drop)
}

/// Whether both agents of europe run with a level of the log, and are ready.
fn rolled_out(stage: &Stage, level: &str) -> anyhow::Result<()> {
    let seen = agents(
        stage,
        "europe",
        r#".spec.containers[0].env[?(@.name=="LOG")].value"#,
    )?;
    let ready = if level == "info" {
        seen.lines()
            .filter(|line| !line.contains("debug") && line.ends_with("true"))
            .count()
    } else {
        seen.lines()
            .filter(|line| *line == format!("{level} true"))
            .count()
    };
    anyhow::ensure!(ready == 2, "{ready} of 2 agents: {seen}");
    Ok(())
}

fn operators(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let names = stage.kubectl()?.run([
        "--namespace",
        NAMESPACE,
        "get",
        "pods",
        "--selector=app.kubernetes.io/name=honeygraph-operator",
        "--output=jsonpath={.items[*].metadata.name}",
    ])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// The pod that leads.
fn leader(stage: &Stage) -> anyhow::Result<String> {
    let holder = stage.kubectl()?.run([
        "--namespace",
        NAMESPACE,
        "get",
        "lease",
        "honeygraph-operator",
        "--output=jsonpath={.spec.holderIdentity}",
    ])?;
    let operators = operators(stage)?;
    operators
        .into_iter()
        .find(|pod| holder.starts_with(pod.as_str()))
        .with_context(|| format!("{holder} is no operator that runs"))
}
