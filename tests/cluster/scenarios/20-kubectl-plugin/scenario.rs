//! `kubectl honeygraph` on a real API server: kubectl finds it, what the chart installs is as `doctor` wants it, and who may
//! only look sees nodes.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use honeygraph_test_cluster::build_program;
use serde_json::Value;

use super::installation::{helm, uninstall};
use super::stage::Stage;
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "20-kubectl-plugin",
    needs: Needs::Controllers,
    labels: &[],
    run,
};

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let program = stage.step("build kubectl-honeygraph", || build_program("kubectl-honeygraph"))?;
    let definitions = stage.run(&["get", "customresourcedefinitions", "--output=name"])?;
    let is_ours = !definitions.contains(".honeygraph.io");
    let namespace = stage.create_namespace()?;
    if is_ours {
        // Its pods do not run where there are no machines, which is not what this is about.
        stage.step("helm upgrade --install honeygraph", || helm(stage, &[]))?;
    }
    let outcome = check(stage, &program, &namespace);
    if is_ours {
        let removed = stage.step("uninstall the chart and its definitions", || uninstall(stage));
        if outcome.is_ok() {
            removed?;
        }
    }
    outcome
}

fn check(stage: &Stage, program: &Path, namespace: &str) -> anyhow::Result<()> {
    stage.step("the API server serves the definitions", || {
        let wait = [
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=120s",
        ];
        stage.run(&wait)
    })?;
    stage.apply("node.yaml", include_str!("node.yaml"))?;
    let us = stage.kubectl()?.kubeconfig().to_owned();
    stage.step(
        "doctor finds the definitions and the operator's rights in order",
        || {
            let report = plugin(stage, program, &us, &["doctor", "--output=json", "-n", namespace])?;
            let report: Value = serde_json::from_str(&report).with_context(|| report.clone())?;
            verdicts(&report, "resources", "is installed, as of version", 2)?;
            verdicts(&report, "operator", "may do all that it has to", 1)?;
            verdicts(&report, "cluster", "the API server answers", 1)
        },
    )?;
    stage.step("status names the node, and the pod that its agent lacks", || {
        let screen = plugin(stage, program, &us, &["status", "-n", namespace])?;
        says(&screen, &["first", "there is no pod first-agent-0-0"])
    })?;
    let viewer = stage.step("make an account that may only look", || viewer(stage, namespace))?;
    let kubeconfig = std::env::temp_dir().join(format!("viewer-{}.json", std::process::id()));
    std::fs::write(&kubeconfig, viewer.to_string()).context("the viewer's kubeconfig")?;
    let seen = stage.eventually("it sees the node, and that it may not ask agents", || {
        let screen = plugin(stage, program, &kubeconfig, &["status", "-n", namespace])?;
        says(&screen, &["first", "Agents were not asked"])
    });
    let elsewhere = stage.step("in other namespaces it is told what to do", || {
        let refusal = plugin(stage, program, &kubeconfig, &["status", "-A"])?;
        says(
            &refusal,
            &["you may not list honeygraphnodes in any namespace", "-n"],
        )
    });
    std::fs::remove_file(&kubeconfig).context("the viewer's kubeconfig")?;
    seen.and(elsewhere)
}

/// What `kubectl honeygraph` prints, whatever its exit code: it looks at what is not well.
fn plugin(stage: &Stage, program: &Path, kubeconfig: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let folder = program.parent().context("the program is in no folder")?;
    let mut path = OsString::from(folder);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = Command::new(stage.kubectl()?.program())
        .arg("honeygraph")
        .args(arguments)
        .env("PATH", path)
        .env("KUBECONFIG", kubeconfig)
        .output()
        .context("kubectl cannot be started")?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.code().is_some_and(|code| code <= 1),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(words + &String::from_utf8_lossy(&output.stderr))
}

fn says(text: &str, words: &[&str]) -> anyhow::Result<()> {
    for word in words {
        anyhow::ensure!(text.contains(word), "nothing says `{word}`: {text}");
    }
    Ok(())
}

/// Checks that so many checks of a section say this, and are in order.
fn verdicts(report: &Value, section: &str, words: &str, wanted: usize) -> anyhow::Result<()> {
    let sections = report["sections"].as_array().context("no sections")?;
    let section = sections
        .iter()
        .find(|found| found["title"] == section)
        .with_context(|| format!("no section {section}: {report:#}"))?;
    let checks = section["checks"].as_array().context("no checks")?;
    let good = checks.iter().filter(|check| {
        check["verdict"] == "ok" && check["what"].as_str().is_some_and(|what| what.contains(words))
    });
    let found = good.count();
    anyhow::ensure!(
        found == wanted,
        "{found} of {wanted} checks say `{words}`: {section:#}"
    );
    Ok(())
}

/// A kubeconfig of an account with the role `view` in a namespace.
fn viewer(stage: &Stage, namespace: &str) -> anyhow::Result<Value> {
    stage.run(&["create", "serviceaccount", "viewer"])?;
    let account = format!("--serviceaccount={namespace}:viewer");
    stage.run(&["create", "rolebinding", "viewer", "--clusterrole=view", &account])?;
    let token = stage.run(&["create", "token", "viewer"])?;
    let view = stage.run(&[
        "config",
        "view",
        "--raw",
        "--minify",
        "--flatten",
        "--output=json",
    ])?;
    let mut kubeconfig: Value = serde_json::from_str(&view)?;
    kubeconfig["users"][0]["user"] = serde_json::json!({ "token": token.trim() });
    Ok(kubeconfig)
}
