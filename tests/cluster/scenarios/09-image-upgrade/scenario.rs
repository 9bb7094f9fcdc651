//! A new image of the agent, under readers: one agent after the other, and always one that answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use honeygraph_test_cluster::{Program, build_programs};
use serde_json::Value;

use super::installation::install;
use super::stage::Stage;
use super::three_regions::{agents, agree, api, start};
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "09-image-upgrade",
    needs: Needs::Nodes,
    labels: &[],
    run,
};

/// The next image: the same program under another name.
const NEXT: &str = "honeygraph.test/honeygraph-agent:next";

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let images = install(stage)?;
    stage.create_namespace()?;
    let first = start(stage, &images)?;
    stage.step("europe gets a second agent", || {
        stage.run(&["scale", "honeygraphnode/europe", "--replicas=2"])
    })?;
    stage.eventually("both run", || run_with(stage, &images.agent))?;
    stage.step("the next image is loaded into every node", || {
        let image = Program::Agent.image(&build_programs()?)?.renamed(NEXT);
        stage.cluster()?.load(&image)
    })?;

    let upgraded = AtomicBool::new(false);
    let answered = AtomicU32::new(0);
    let (upgrade, reading) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(stage, &upgraded, &answered));
        let change = format!(r#"{{"spec":{{"agent":{{"image":"{NEXT}"}}}}}}"#);
        let upgrade = stage
            .run(&["patch", "hgn", "europe", "--type=merge", "--patch", &change])
            .and_then(|_| stage.eventually("both run with the next image", || run_with(stage, NEXT)));
        upgraded.store(true, Ordering::Relaxed);
        (upgrade, reader.join())
    });
    upgrade?;
    let answers = answered.load(Ordering::Relaxed);
    stage.step(&format!("{answers} readers had their answer meanwhile"), || {
        let failures = reading.map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        anyhow::ensure!(failures.is_empty(), "{} had none: {failures:#?}", failures.len());
        Ok(())
    })?;
    agree(stage, first)
}

/// Reads from europe as long as it is upgraded; gives what failed.
fn read_until(stage: &Stage, end: &AtomicBool, answered: &AtomicU32) -> Vec<String> {
    let mut failures = Vec::new();
    while !end.load(Ordering::Relaxed) {
        match api(stage, "europe", "/api/sync/status") {
            Ok(status) if status["stateHeight"] != Value::Null => {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(status) => failures.push(status.to_string()),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    failures
}

/// Whether both agents of europe are ready with an image.
fn run_with(stage: &Stage, image: &str) -> anyhow::Result<()> {
    let seen = agents(stage, "europe", ".spec.containers[0].image")?;
    let wanted = format!("{image} true");
    anyhow::ensure!(seen.lines().filter(|line| *line == wanted).count() == 2, "{seen}");
    Ok(())
}
