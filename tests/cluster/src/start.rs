//! Starts the parts of a cluster, one after the other.

use anyhow::Context;

use crate::cluster::Options;
use crate::control_plane::{self, PATIENCE};
use crate::home::Folder;
use crate::image;
use crate::kubectl::Kubectl;
use crate::level::Level;
use crate::network;
use crate::node::{self, Node, REGIONS};
use crate::process::ProcessIdentity;
use crate::proxy;
use crate::record::{Record, Resource};
use crate::requirements::missing;
use crate::storage;
use crate::tools::{ControlPlanePrograms, ToolSet};

/// Cluster DNS.
const COREDNS_MANIFEST: &str = include_str!("../manifests/coredns.yaml");

/// What kube-proxy may do.
const PROXY_MANIFEST: &str = include_str!("../manifests/kube-proxy.yaml");

/// Makes the folder and the record of a cluster; `ends_with_us`: another process may remove it when this one is gone.
pub(crate) fn prepare(folder: &Folder, ends_with_us: bool) -> anyhow::Result<Record> {
    folder.create()?;
    let mut record = Record::open(folder)?;
    if ends_with_us {
        let owner = ProcessIdentity::current().context("/proc does not know this process")?;
        record.write(&Resource::Owner(owner))?;
    }
    Ok(record)
}

pub(crate) fn start_parts(folder: &Folder, record: &mut Record, options: Options) -> anyhow::Result<Kubectl> {
    if let Some(missing) = missing(options.level) {
        anyhow::bail!("a cluster of {} cannot be started here: {missing}", options.level);
    }
    folder.write("level", serde_json::to_string(&options.level)?)?;
    let programs = ControlPlanePrograms::get()?;
    match options.level {
        Level::One => {
            let started = control_plane::start(folder, record, &programs, options.level, options.audit)?;
            finish(folder, started.kubectl)
        }
        Level::Two => start_level_two(folder, record, &programs, options),
    }
}

fn start_level_two(
    folder: &Folder,
    record: &mut Record,
    programs: &ControlPlanePrograms,
    options: Options,
) -> anyhow::Result<Kubectl> {
    let kubernetes = ToolSet::Kubernetes.build()?;
    let coredns = ToolSet::Coredns.build()?;
    let nodes = Node::all(folder);
    network::prepare(record, u8::try_from(nodes.len())?)?;
    let control_plane = control_plane::start(folder, record, programs, options.level, options.audit)?;
    let kubectl = control_plane.kubectl.clone();

    for node in &nodes {
        node.start_containerd(record)?;
    }
    let images = [
        image::pause()?,
        image::coredns(&coredns.join("coredns"))?,
        image::busybox()?,
    ];
    for image in &images {
        node::load_everywhere(folder, image)?;
    }
    node::take_control_group(record)?;
    let mut kubelets = Vec::new();
    for node in &nodes {
        let kubelet = node.start_kubelet(record, &kubernetes.join("kubelet"), &control_plane)?;
        kubelets.push((node, kubelet));
    }
    for (node, kubelet) in kubelets {
        let name = format!("node/{}", node.name());
        kubelet.wait(PATIENCE, || is_true(&kubectl, &name, "Ready"))?;
    }
    kubectl.apply(PROXY_MANIFEST)?;
    kubectl.apply(COREDNS_MANIFEST)?;
    let proxy_node = REGIONS[0];
    proxy::start(
        folder,
        record,
        &kubernetes.join("kube-proxy"),
        &control_plane,
        proxy_node,
    )?;
    storage::create(&kubectl, &nodes)?;
    wait_for_dns(&kubectl)?;
    finish(folder, kubectl)
}

fn wait_for_dns(kubectl: &Kubectl) -> anyhow::Result<()> {
    let namespace = ["--namespace", "kube-system"];
    let patience = format!("--timeout={}s", PATIENCE.as_secs());
    let question = ["rollout", "status", "deployment/coredns", &patience];
    let Err(error) = kubectl.run(namespace.into_iter().chain(question)) else {
        return Ok(());
    };
    let seen = kubectl.run(namespace.into_iter().chain(["get", "pods,events"]));
    anyhow::bail!(
        "cluster DNS is not ready: {error:#}\n{}",
        seen.unwrap_or_default()
    )
}

/// The file of this name is written last: it says that the cluster is ready.
fn finish(folder: &Folder, kubectl: Kubectl) -> anyhow::Result<Kubectl> {
    std::fs::rename(folder.join("admin.kubeconfig"), folder.kubeconfig())?;
    Ok(kubectl.with_kubeconfig(folder.kubeconfig()))
}

/// Whether an object has a condition.
fn is_true(kubectl: &Kubectl, object: &str, condition: &str) -> Result<(), String> {
    let path = format!("jsonpath={{.status.conditions[?(@.type==\"{condition}\")]['status', 'message']}}");
    match kubectl.run(["get", object, "--output", &path]) {
        Ok(status) if status.starts_with("True") => Ok(()),
        Ok(status) => Err(format!("{object} is {condition}: {status}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The level that was asked for.
pub(crate) fn level_of(folder: &Folder) -> anyhow::Result<Level> {
    let file = folder.join("level");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}
