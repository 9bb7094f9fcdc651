//! A cluster: started, used, ended.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use rustix::process::Signal;

use crate::all::remove_forsaken;
use crate::control_plane::AuditLog;
use crate::home::{Folder, UP};
use crate::image::Image;
use crate::kubectl::Kubectl;
use crate::level::Level;
use crate::node;
use crate::record::{self, Resource};
use crate::removal;
use crate::start::{level_of, prepare, start_parts};
use crate::tools;

/// Names the kubeconfig of a cluster that is there already.
const KUBECONFIG_VARIABLE: &str = "KUBECONFIG";

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
            Some(given) => {
                anyhow::ensure!(
                    given.level >= level,
                    "the cluster that {KUBECONFIG_VARIABLE} names has no nodes, but {level} is needed"
                );
                Ok(given)
            }
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

    /// Starts the cluster of `cargo cluster up`, which stays until [`remove_all`](crate::remove_all).
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

    /// Sends a signal to a part, such as `kube-apiserver`: to stop it for a while, or to end it.
    pub fn signal(&self, part: &str, signal: Signal) -> anyhow::Result<()> {
        let folder = self
            .folder()
            .context("the parts of a cluster that KUBECONFIG names are not known")?;
        let resources = record::read(folder)?;
        let process = resources.iter().rev().find_map(|resource| match resource {
            Resource::Process { part: name, process } if name == part => Some(*process),
            _ => None,
        });
        process
            .with_context(|| format!("no part is called {part}"))?
            .signal(signal)
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
