//! A cluster: started, used, ended.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;

use crate::control_plane::{self, AuditLog, PATIENCE};
use crate::home::{Folder, UP};
use crate::image::{self, Image};
use crate::kubectl::Kubectl;
use crate::level::Level;
use crate::network;
use crate::node::{self, Node, REGIONS};
use crate::process::ProcessIdentity;
use crate::proxy;
use crate::record::{self, Record, Resource};
use crate::removal;
use crate::requirements::missing;
use crate::tools::{self, ControlPlanePrograms, ToolSet};

/// Names the kubeconfig of a cluster that is there already.
const KUBECONFIG_VARIABLE: &str = "KUBECONFIG";

/// Time between two looks at a process that is ending.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Cluster DNS.
const COREDNS_MANIFEST: &str = include_str!("../manifests/coredns.yaml");

/// What kube-proxy may do.
const PROXY_MANIFEST: &str = include_str!("../manifests/kube-proxy.yaml");

/// What is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How much of a cluster.
    pub level: Level,
    /// Whether mutating requests are written down.
    pub audit: AuditLog,
}

/// Whose a cluster is.
#[derive(Clone, Debug)]
enum Origin {
    /// `KUBECONFIG` names it. Nothing of it is ever ended here.
    Given,
    /// `cargo cluster up` started it, and `cargo cluster down` ends it.
    Up(Folder),
    /// It ends with the value.
    Own(Folder),
}

/// A cluster that answers. One that was started by [`Cluster::start`] or [`Cluster::start_own`] ends when the value is
/// dropped.
#[derive(Debug)]
pub struct Cluster {
    level: Level,
    kubectl: Kubectl,
    origin: Origin,
}

impl Cluster {
    /// The cluster that `KUBECONFIG` names, if it does; else one that is started now and ends with the value.
    pub fn start(level: Level) -> anyhow::Result<Self> {
        match Self::given()? {
            Some(given) => Ok(given),
            None => Self::start_own(Options {
                level,
                audit: AuditLog::Off,
            }),
        }
    }

    /// Starts a cluster that ends with the value, whatever `KUBECONFIG` names.
    pub fn start_own(options: Options) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_forsaken()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Folder::named(&format!("test-{}-{count}", std::process::id()))?;
        let started =
            prepare(&folder, true).and_then(|mut record| start_parts(&folder, &mut record, options));
        match started {
            Ok(kubectl) => Ok(Self {
                level: options.level,
                kubectl,
                origin: Origin::Own(folder),
            }),
            Err(error) if folder.exists() => match removal::remove(&folder) {
                Ok(()) => Err(error),
                Err(removal) => Err(error.context(removal)),
            },
            Err(error) => Err(error),
        }
    }

    /// Starts the cluster of `cargo cluster up`, which stays until [`remove_all`].
    pub fn up(options: Options) -> anyhow::Result<Self> {
        remove_forsaken()?;
        let folder = Folder::named(UP)?;
        let mut record = prepare(&folder, false)?;
        let kubectl = start_parts(&folder, &mut record, options).with_context(|| {
            format!(
                "the cluster did not start; its logs are in {}, and `cargo cluster down` removes what there is of it",
                folder.join("logs").display()
            )
        })?;
        Ok(Self {
            level: options.level,
            kubectl,
            origin: Origin::Up(folder),
        })
    }

    /// The cluster of `cargo cluster up`, if it is ready.
    pub fn running() -> anyhow::Result<Option<Self>> {
        let folder = Folder::named(UP)?;
        if !folder.kubeconfig().exists() {
            return Ok(None);
        }
        let cache = folder.join("kubectl-cache");
        Ok(Some(Self {
            level: level_of(&folder)?,
            kubectl: Kubectl::new(tools::kubectl()?, folder.kubeconfig(), cache),
            origin: Origin::Up(folder),
        }))
    }

    /// The cluster that `KUBECONFIG` names. It has to answer.
    pub fn given() -> anyhow::Result<Option<Self>> {
        let Some(kubeconfig) = std::env::var_os(KUBECONFIG_VARIABLE).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let kubeconfig = PathBuf::from(kubeconfig);
        // What `cargo cluster env` prints names our own.
        if let Some(running) = Self::running()?.filter(|running| running.kubeconfig() == kubeconfig) {
            return Ok(Some(running));
        }
        let cache = std::env::temp_dir().join("honeygraph-kubectl-cache");
        let kubectl = Kubectl::new(tools::kubectl()?, kubeconfig, cache);
        let nodes = kubectl
            .run(["get", "nodes", "--output", "name"])
            .context("KUBECONFIG names a cluster that does not answer")?;
        Ok(Some(Self {
            level: if nodes.trim().is_empty() {
                Level::One
            } else {
                Level::Two
            },
            kubectl,
            origin: Origin::Given,
        }))
    }

    /// How much of a cluster it is.
    pub fn level(&self) -> Level {
        self.level
    }

    /// kubectl on this cluster.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The file that clients find the cluster with.
    pub fn kubeconfig(&self) -> &Path {
        self.kubectl.kubeconfig()
    }

    /// Where its parts write their logs; none of a cluster that `KUBECONFIG` names.
    pub fn logs(&self) -> Option<PathBuf> {
        self.folder().map(|folder| folder.join("logs"))
    }

    /// Where mutating requests are written down, if they are.
    pub fn audit_log(&self) -> Option<PathBuf> {
        self.folder().map(Folder::audit_log).filter(|log| log.exists())
    }

    /// Whether it ends with this value.
    pub fn is_own(&self) -> bool {
        matches!(self.origin, Origin::Own(_))
    }

    /// Loads an image into every node. Pods that use it need `imagePullPolicy: Never` or `IfNotPresent`.
    pub fn load(&self, image: &Image) -> anyhow::Result<()> {
        let folder = self.folder().context(
            "images cannot be loaded into a cluster that KUBECONFIG names: push them to a registry it pulls from",
        )?;
        anyhow::ensure!(
            self.level == Level::Two,
            "a cluster of {} has no nodes for images",
            self.level
        );
        node::load_everywhere(folder, image)
    }

    /// Whether a controller manager works: what it makes in every namespace is there.
    pub fn has_controllers(&self) -> bool {
        let question = ["get", "--namespace", "default", "serviceaccount/default"];
        self.kubectl.run(question).is_ok()
    }

    /// Whether images can be loaded.
    pub fn takes_images(&self) -> bool {
        self.level == Level::Two && self.folder().is_some()
    }

    /// Ends it, if it is its owner's, and says what could not be removed.
    pub fn end(mut self) -> anyhow::Result<()> {
        // What drop has then is nothing of ours.
        match std::mem::replace(&mut self.origin, Origin::Given) {
            Origin::Own(folder) => removal::remove(&folder),
            Origin::Given | Origin::Up(_) => Ok(()),
        }
    }

    fn folder(&self) -> Option<&Folder> {
        match &self.origin {
            Origin::Given => None,
            Origin::Up(folder) | Origin::Own(folder) => Some(folder),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Origin::Own(folder) = &self.origin
            && let Err(error) = removal::remove(folder)
        {
            eprintln!("{error:#}");
        }
    }
}

/// Makes the folder and the record of a cluster; `ends_with_us`: another process may remove it when this one is gone.
fn prepare(folder: &Folder, ends_with_us: bool) -> anyhow::Result<Record> {
    folder.create()?;
    let mut record = Record::open(folder)?;
    if ends_with_us {
        let owner = ProcessIdentity::current().context("/proc does not know this process")?;
        record.write(&Resource::Owner(owner))?;
    }
    Ok(record)
}

fn start_parts(folder: &Folder, record: &mut Record, options: Options) -> anyhow::Result<Kubectl> {
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

fn level_of(folder: &Folder) -> anyhow::Result<Level> {
    let file = folder.join("level");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// One part of a cluster, as it is now.
#[derive(Clone, Debug)]
pub struct PartCondition {
    /// Its name.
    pub part: String,
    /// Its process.
    pub pid: i32,
    /// Whether that process runs.
    pub alive: bool,
    /// Where it logs.
    pub log: PathBuf,
}

/// One cluster, as it is now.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Its name: [`UP`], or one of a test.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// How much of a cluster it is; unknown where a start was cut off early.
    pub level: Option<Level>,
    /// Whether it has been started to the end.
    pub started: bool,
    /// The process that uses it, while that runs.
    pub user: Option<i32>,
    /// Its parts in the order of their start.
    pub parts: Vec<PartCondition>,
}

/// All clusters of this user, also what is left of those whose test was killed.
pub fn conditions() -> anyhow::Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    for folder in Folder::all()? {
        let parts = record::read(&folder)?
            .into_iter()
            .filter_map(|resource| match resource {
                Resource::Process { part, process } => Some(PartCondition {
                    pid: process.pid(),
                    alive: process.is_alive(),
                    log: folder.log(&part),
                    part,
                }),
                _ => None,
            });
        conditions.push(Condition {
            name: folder.name(),
            folder: folder.path().to_owned(),
            level: level_of(&folder).ok(),
            started: folder.kubeconfig().exists(),
            user: user(&folder)?.map(ProcessIdentity::pid),
            parts: parts.collect(),
        });
    }
    Ok(conditions)
}

/// Which clusters are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// That of `cargo cluster up`, and those whose test has ended.
    NotInUse,
    /// Those that a running test uses too.
    All,
}

/// Removes clusters; returns the names of those removed. All are tried; an error names what is left.
pub fn remove_all(which: Removal) -> anyhow::Result<Vec<String>> {
    let mut removed = Vec::new();
    let mut left = Vec::new();
    for folder in Folder::all()? {
        if which == Removal::NotInUse && user(&folder)?.is_some() {
            continue;
        }
        match removal::remove(&folder) {
            Ok(()) => removed.push(folder.name()),
            Err(error) => left.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(left.is_empty(), "{}", left.join("\n"));
    Ok(removed)
}

/// Removes clusters whose test was killed.
fn remove_forsaken() -> anyhow::Result<()> {
    for folder in Folder::all()? {
        if let Some(owner) = removal::owner(&folder)?
            && !owner.is_alive()
        {
            eprintln!(
                "removing {}: the process that started it is gone",
                folder.path().display()
            );
            removal::remove(&folder)?;
        }
    }
    Ok(())
}

/// A process whose clusters are removed when it has ended.
#[derive(Debug)]
pub struct Watched {
    owner: ProcessIdentity,
}

impl Watched {
    /// The process that has this id now.
    pub fn process(pid: u32) -> anyhow::Result<Self> {
        let owner = ProcessIdentity::of(pid).with_context(|| format!("there is no process {pid}"))?;
        Ok(Self { owner })
    }

    /// Waits for its end, which must be near, and removes its clusters.
    pub fn remove_when_ended(self) -> anyhow::Result<()> {
        while self.owner.is_alive() {
            std::thread::sleep(LOOK_AGAIN);
        }
        for folder in Folder::all()? {
            if removal::owner(&folder)? == Some(self.owner) {
                removal::remove(&folder)?;
            }
        }
        Ok(())
    }
}

/// The process that uses a cluster, while it runs.
fn user(folder: &Folder) -> anyhow::Result<Option<ProcessIdentity>> {
    Ok(removal::owner(folder)?.filter(|owner| owner.is_alive()))
}
