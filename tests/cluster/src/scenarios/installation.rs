//! The operator in a cluster, installed by its chart, of this checkout.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use honeygraph_test_cluster::{Program, ToolSet, build_programs};

use super::stage::Stage;

/// Where the operator is.
pub(super) const NAMESPACE: &str = "honeygraph-system";

/// The chart's release.
const RELEASE: &str = "honeygraph";

/// The operators.
const OPERATOR: &str = "deployment/honeygraph-operator";

/// The images of this checkout, by name.
#[derive(Clone, Debug)]
pub(super) struct Images {
    pub(super) agent: String,
    pub(super) operator: String,
    pub(super) honeycomb: String,
}

/// What was loaded, and the cluster it was loaded into: once is enough.
static LOADED: Mutex<Option<(PathBuf, Images)>> = Mutex::new(None);

/// Installs the chart, or upgrades it, with what was built of this checkout; waits until the operators work.
pub(super) fn install(stage: &Stage) -> anyhow::Result<Images> {
    let images = load(stage)?;
    stage.step("helm upgrade --install honeygraph", || {
        helm(stage, &settings(&images))
    })?;
    operators_work(stage, Duration::from_mins(2))?;
    Ok(images)
}

/// Waits until both operators are ready.
pub(super) fn operators_work(stage: &Stage, longest: Duration) -> anyhow::Result<()> {
    stage.step("both operators work", || {
        let timeout = format!("--timeout={}s", longest.as_secs());
        let question = ["--namespace", NAMESPACE, "rollout", "status", OPERATOR, &timeout];
        stage.kubectl()?.run(question).map(drop)
    })
}

fn load(stage: &Stage) -> anyhow::Result<Images> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = stage.cluster()?;
    if let Some((kubeconfig, images)) = &*loaded
        && kubeconfig == cluster.kubeconfig()
    {
        return Ok(images.clone());
    }
    let folder = stage.step("build agent, operator and honeycomb", build_programs)?;
    let load = |program: Program| {
        let image = program.image(&folder)?;
        cluster.load(&image)?;
        Ok::<_, anyhow::Error>(image.name().to_owned())
    };
    let images = stage.step("load their images into every node", || {
        Ok(Images {
            agent: load(Program::Agent)?,
            operator: load(Program::Operator)?,
            honeycomb: load(Program::Honeycomb)?,
        })
    })?;
    *loaded = Some((cluster.kubeconfig().to_owned(), images.clone()));
    Ok(images)
}

fn settings(images: &Images) -> Vec<String> {
    let (repository, tag) = images
        .operator
        .rsplit_once(':')
        .unwrap_or((&images.operator, "latest"));
    vec![
        format!("--set=image.repository={repository}"),
        format!("--set-string=image.tag={tag}"),
        format!("--set=nodeImages.agent={}", images.agent),
    ]
}

/// Installs the chart with these settings, or upgrades it; waits for nothing.
pub(super) fn helm(stage: &Stage, settings: &[String]) -> anyhow::Result<()> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/honeygraph");
    let chart = chart.display().to_string();
    let mut arguments = vec!["upgrade", "--install", RELEASE, &chart, "--create-namespace"];
    arguments.extend(settings.iter().map(String::as_str));
    run_helm(stage, &arguments)
}

/// Uninstalls the chart, and what it leaves on purpose: the definitions, and with them all nodes.
pub(super) fn uninstall(stage: &Stage) -> anyhow::Result<()> {
    run_helm(stage, &["uninstall", RELEASE])?;
    let definitions = ["honeygraphnodes.honeygraph.io", "checkpoints.honeygraph.io"];
    let mut delete = vec!["delete", "customresourcedefinition", "--timeout=120s"];
    delete.extend(definitions);
    stage.run(&delete).map(drop)
}

/// Runs helm in the operator's namespace.
fn run_helm(stage: &Stage, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(ToolSet::Helm.build()?.join("helm"))
        .args(arguments)
        .args(["--namespace", NAMESPACE])
        .env("KUBECONFIG", stage.cluster()?.kubeconfig())
        .output()
        .context("helm cannot be started")?;
    anyhow::ensure!(
        output.status.success(),
        "helm: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
