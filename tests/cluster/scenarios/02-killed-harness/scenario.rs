//! A cluster of its own ends with its value, and one whose harness is killed is removed by `down`: nothing is left.

use std::path::Path;
use std::process::{Command, Stdio};

use honeygraph_test_cluster::{AuditLog, Cluster, Condition, Level, Options, conditions};

use super::stage::Stage;
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "02-killed-harness",
    needs: Needs::OwnCluster,
    labels: &[],
    run,
};

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let options = Options {
        level: Level::One,
        audit: AuditLog::Off,
    };
    let us = i32::try_from(std::process::id())?;
    let before = of(us)?.len();
    let cluster = stage.step("start a cluster of level one", || Cluster::start_own(options))?;
    let condition = stage.step("its parts run", || {
        let mut all = of(us)?;
        anyhow::ensure!(all.len() == before + 1, "{all:?}");
        let condition = all.pop().filter(|condition| condition.started);
        let condition = condition.ok_or_else(|| anyhow::anyhow!("it is not started"))?;
        let parts: Vec<_> = condition.parts.iter().map(|part| part.part.as_str()).collect();
        anyhow::ensure!(parts.starts_with(&["etcd", "kube-apiserver"]), "{parts:?}");
        anyhow::ensure!(condition.parts.iter().all(|part| part.alive), "{condition:?}");
        Ok(condition)
    })?;
    stage.step("end it", || cluster.end())?;
    stage.step("nothing of it is left", || nothing_is_left(&condition))?;

    // Other harnesses, in a folder of their own: `down` is not to take the clusters of this run for theirs.
    let home = std::env::temp_dir().join(format!("hg{}", std::process::id()));
    let outcome = kill_up(stage, &home).and_then(|()| kill_test(stage, &home));
    // What a step that failed has left, so that it is not ours that is left.
    let removed = harness(&home)?.args(["down", "--all"]).status()?;
    anyhow::ensure!(removed.success() || outcome.is_err(), "`down --all`: {removed}");
    let _ = std::fs::remove_dir_all(&home);
    outcome
}

fn kill_up(stage: &Stage, home: &Path) -> anyhow::Result<()> {
    let running = kill(stage, home, &["up", "--level", "one"])?;
    stage.step("what it started runs", || {
        let running = processes_of(home)?;
        anyhow::ensure!(running.len() >= 2, "processes {running:?}");
        Ok(())
    })?;
    stage.step("`down` removes it", || {
        let status = harness(home)?.arg("down").status()?;
        anyhow::ensure!(status.success(), "{status}");
        Ok(())
    })?;
    stage.step("nothing of it is left", || is_empty(home, &running))
}

fn kill_test(stage: &Stage, home: &Path) -> anyhow::Result<()> {
    let running = kill(stage, home, &["test", "01-api", "--level", "one"])?;
    stage.eventually("nothing of it is left, without `down`", || {
        is_empty(home, &running)
    })
}

/// Starts a harness, kills it when it has started an API server, and returns the processes it had started.
fn kill(stage: &Stage, home: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u32>> {
    let mut child = stage.step(&format!("start another harness: {}", arguments.join(" ")), || {
        Ok(harness(home)?.args(arguments).spawn()?)
    })?;
    let running = stage.eventually("its API server runs", || {
        let running = processes_of(home)?;
        anyhow::ensure!(running.len() >= 2, "processes {running:?}");
        Ok(running)
    });
    child.kill()?;
    child.wait()?;
    running
}

/// This program, with clusters in another folder.
fn harness(home: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env("HONEYGRAPH_CLUSTERS", home)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// Whether no cluster is in a folder, and no process of one runs.
fn is_empty(home: &Path, started: &[u32]) -> anyhow::Result<()> {
    let left = processes_of(home)?;
    anyhow::ensure!(left.is_empty(), "of the processes {started:?} are left {left:?}");
    let clusters = std::fs::read_dir(home)?.count();
    anyhow::ensure!(
        clusters == 0,
        "{clusters} clusters are left in {}",
        home.display()
    );
    Ok(())
}

/// The clusters that this process uses.
fn of(us: i32) -> anyhow::Result<Vec<Condition>> {
    let mut all = conditions()?;
    all.retain(|condition| condition.user == Some(us));
    Ok(all)
}

/// Whether the folder and the processes of a cluster are gone.
pub(super) fn nothing_is_left(condition: &Condition) -> anyhow::Result<()> {
    anyhow::ensure!(
        !condition.folder.exists(),
        "{} is left",
        condition.folder.display()
    );
    let left = processes_of(&condition.folder)?;
    anyhow::ensure!(left.is_empty(), "processes {left:?} are left");
    Ok(())
}

/// The processes that name a folder in their command line: seen from outside, without the harness's record.
fn processes_of(folder: &Path) -> anyhow::Result<Vec<u32>> {
    let folder = folder.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that ends meanwhile is one less.
        if std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&folder))
        {
            found.push(pid);
        }
    }
    Ok(found)
}
