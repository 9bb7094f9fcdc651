//! Where a scenario plays: its cluster, a namespace of its own, and the story of its steps.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use honeygraph_test_cluster::{Cluster, Kubectl};

/// Time for what a step waits for: seconds when the machine is idle, but it may be busy.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// Time between two looks at what is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Where one scenario plays.
pub(super) struct Stage {
    name: &'static str,
    cluster: Option<Cluster>,
    namespace: Option<String>,
    done: Mutex<Vec<String>>,
    /// Whether each step is printed when it is done.
    live: bool,
}

impl Stage {
    pub(super) fn new(name: &'static str, cluster: Option<Cluster>) -> Self {
        Self {
            name,
            cluster,
            namespace: None,
            done: Mutex::default(),
            live: false,
        }
    }

    /// A stage for somebody who watches: each step is printed when it is done.
    pub(super) fn live(name: &'static str, cluster: Cluster) -> Self {
        Self {
            live: true,
            ..Self::new(name, Some(cluster))
        }
    }

    pub(super) fn has_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    pub(super) fn use_cluster(&mut self, cluster: Cluster) {
        self.cluster = Some(cluster);
    }

    pub(super) fn into_cluster(self) -> Option<Cluster> {
        self.cluster
    }

    /// The cluster that the scenario plays on.
    pub(super) fn cluster(&self) -> anyhow::Result<&Cluster> {
        self.cluster.as_ref().context("the scenario has no cluster")
    }

    /// Takes the cluster away: no later scenario plays on it.
    pub(super) fn take_cluster(&mut self) -> anyhow::Result<Cluster> {
        self.namespace = None;
        self.cluster.take().context("the scenario has no cluster")
    }

    /// kubectl on the cluster.
    pub(super) fn kubectl(&self) -> anyhow::Result<&Kubectl> {
        Ok(self.cluster()?.kubectl())
    }

    /// The scenario's namespace.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    /// Runs kubectl in the scenario's namespace.
    pub(super) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["--namespace", self.namespace()];
        all.extend(arguments);
        self.kubectl()?.run(all)
    }

    /// Makes a namespace of the scenario's own, which ends with it. One that an earlier, failed run kept goes first.
    pub(super) fn create_namespace(&mut self) -> anyhow::Result<String> {
        let namespace = format!("scenario-{}", self.name);
        self.step(&format!("create namespace {namespace}"), || {
            let kubectl = self.kubectl()?;
            kubectl.run([
                "delete",
                "namespace",
                &namespace,
                "--ignore-not-found",
                "--timeout=120s",
            ])?;
            kubectl.run(["create", "namespace", &namespace])
        })?;
        self.namespace = Some(namespace.clone());
        Ok(namespace)
    }

    /// Applies a manifest in the scenario's namespace.
    pub(super) fn apply(&self, file: &str, manifest: &str) -> anyhow::Result<()> {
        self.step(&format!("apply {file}"), || {
            self.kubectl()?.apply_in(self.namespace(), manifest).map(drop)
        })
    }

    /// Does one step; what it is about is part of the story.
    pub(super) fn step<T>(
        &self,
        what: &str,
        action: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let done = action().with_context(|| what.to_owned())?;
        let seconds = began.elapsed().as_secs_f32();
        let line = format!("{what} ({seconds:.1} s)");
        if self.live {
            println!("  {line}");
        }
        self.done().push(line);
        Ok(done)
    }

    /// Waits until a step succeeds; where it never does, its last failure is the scenario's.
    pub(super) fn eventually<T>(
        &self,
        what: &str,
        mut action: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.step(what, || {
            let began = Instant::now();
            loop {
                match action() {
                    Ok(done) => return Ok(done),
                    Err(error) if began.elapsed() > PATIENCE => {
                        return Err(error.context(format!("not within {} s", PATIENCE.as_secs())));
                    }
                    Err(_) => std::thread::sleep(LOOK_AGAIN),
                }
            }
        })
    }

    /// Removes the scenario's namespace. A failed one keeps it where the cluster stays, to be looked at.
    pub(super) fn clean(&mut self) -> anyhow::Result<()> {
        let Some(namespace) = self.namespace.take() else {
            return Ok(());
        };
        self.step(&format!("delete namespace {namespace}"), || {
            // Pods go by their grace periods; who runs next has a namespace of its own.
            self.kubectl()?
                .run(["delete", "namespace", &namespace, "--wait=false"])
        })
        .map(drop)
    }

    fn done(&self) -> MutexGuard<'_, Vec<String>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done, and what then failed.
    pub(super) fn story(&self, error: &anyhow::Error) -> String {
        let mut lines = Vec::new();
        for step in self.done().iter() {
            lines.push(format!("  done    {step}"));
        }
        lines.push(format!("  failed  {error:#}"));
        if let Some(namespace) = &self.namespace {
            let question = ["--namespace", namespace, "get", "pods,events"];
            let seen = self.kubectl().and_then(|kubectl| kubectl.run(question));
            lines.push(seen.unwrap_or_else(|error| format!("{error:#}")));
        }
        lines.join("\n")
    }
}
