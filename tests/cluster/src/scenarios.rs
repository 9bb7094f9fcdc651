//! The scenarios: numbered folders in `scenarios/`, each with its steps and the manifests it applies.

mod containers;
mod installation;
mod stage;

#[path = "../scenarios/07-agent-lost/scenario.rs"]
mod agent_lost;
#[path = "../scenarios/01-api/scenario.rs"]
mod api;
#[path = "../scenarios/80-disruptive-apiserver/scenario.rs"]
mod apiserver_away;
#[path = "../scenarios/90-disruptive-end/scenario.rs"]
mod end;
#[path = "../scenarios/09-image-upgrade/scenario.rs"]
mod image_upgrade;
#[path = "../scenarios/02-killed-harness/scenario.rs"]
mod killed_harness;
#[path = "../scenarios/10-node-lifecycle/scenario.rs"]
mod node_lifecycle;
#[path = "../scenarios/08-operator-lost/scenario.rs"]
mod operator_lost;
#[path = "../scenarios/03-pod/scenario.rs"]
mod pod;
#[path = "../scenarios/04-regions/scenario.rs"]
mod regions;
#[path = "../scenarios/05-resource-rules/scenario.rs"]
mod resource_rules;
#[path = "../scenarios/11-rights/scenario.rs"]
mod rights;
#[path = "../scenarios/06-three-regions/scenario.rs"]
mod three_regions;

use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use honeygraph_test_cluster::{AuditLog, Cluster, Level, Options, missing};
use libtest_mimic::{Completion, Failed, Trial};

use crate::arguments::TestArguments;
use stage::Stage;

/// One scenario.
struct Scenario {
    /// Number and name: those of its folder.
    name: &'static str,
    /// What it runs on.
    needs: Needs,
    /// Whether it breaks what it runs on.
    labels: &'static [Label],
    run: fn(&mut Stage) -> anyhow::Result<()>,
}

/// What a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Any cluster whose controllers work.
    Controllers,
    /// A cluster with nodes that images are loaded into.
    Nodes,
    /// What it takes to start a cluster of level one: it starts its own.
    OwnCluster,
}

impl Needs {
    fn level(self) -> Level {
        match self {
            Self::Controllers | Self::OwnCluster => Level::One,
            Self::Nodes => Level::Two,
        }
    }
}

/// What people should know before they run a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    /// It breaks the cluster, or ends it: never run on one that is not the tests' own.
    Disruptive,
}

impl Label {
    fn name(self) -> &'static str {
        match self {
            Self::Disruptive => "disruptive",
        }
    }
}

/// All of them, in their order.
const SCENARIOS: [&Scenario; 13] = [
    &api::SCENARIO,
    &killed_harness::SCENARIO,
    &pod::SCENARIO,
    &regions::SCENARIO,
    &resource_rules::SCENARIO,
    &three_regions::SCENARIO,
    &agent_lost::SCENARIO,
    &operator_lost::SCENARIO,
    &image_upgrade::SCENARIO,
    &node_lifecycle::SCENARIO,
    &rights::SCENARIO,
    &apiserver_away::SCENARIO,
    &end::SCENARIO,
];

/// Runs scenarios one after the other, on one cluster: that of `KUBECONFIG`, else that of `cargo cluster up`, else one
/// that is started for them and ends with them.
pub(crate) fn test(arguments: &TestArguments) -> anyhow::Result<ExitCode> {
    let chosen: Vec<_> = SCENARIOS
        .into_iter()
        .filter(|scenario| {
            arguments.scenarios.is_empty()
                || arguments
                    .scenarios
                    .iter()
                    .any(|part| scenario.name.contains(part))
        })
        .collect();
    anyhow::ensure!(
        !chosen.is_empty(),
        "no scenario is called {}; `cargo cluster test --list` lists them",
        arguments.scenarios.join(" or ")
    );
    if arguments.list {
        for scenario in chosen {
            let labels: Vec<_> = scenario.labels.iter().map(|label| label.name()).collect();
            println!(
                "{:20} {:10} {}",
                scenario.name,
                scenario.needs.level(),
                labels.join(", ")
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let _guard = Guard::start()?;
    let ground = Arc::new(Mutex::new(Ground::find(arguments.level, &chosen)?));
    let skip_disruptive = arguments.skip_disruptive;
    let trials = chosen.into_iter().map(|scenario| {
        let ground = Arc::clone(&ground);
        let trial = Trial::ignorable_test(scenario.name, move || {
            let mut ground = ground.lock().unwrap_or_else(PoisonError::into_inner);
            ground.run(scenario, skip_disruptive)
        });
        match scenario.labels.first() {
            Some(label) => trial.with_kind(label.name()),
            None => trial,
        }
    });
    let options = libtest_mimic::Arguments {
        test_threads: Some(1),
        ..libtest_mimic::Arguments::default()
    };
    let conclusion = libtest_mimic::run(&options, trials.collect());
    let mut ground = ground.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = ground.cluster.take() {
        cluster.end()?;
    }
    Ok(conclusion.exit_code())
}

/// Starts the cluster that stays, where none does; installs the operator, and shows three regions that agree.
pub(crate) fn demo() -> anyhow::Result<ExitCode> {
    let cluster = match Cluster::running()? {
        Some(running) => running,
        None => {
            println!("starting a cluster of {}", Level::Two);
            Cluster::up(Options {
                level: Level::Two,
                audit: AuditLog::Off,
            })?
        }
    };
    let mut stage = Stage::live("demo", cluster);
    three_regions::play(&mut stage)?;
    println!("\n{}", stage.run(&["get", "honeygraphnodes"])?);
    println!("All three have the same blocks and the same state. Look around:");
    println!("  eval \"$(cargo cluster env)\"");
    println!(
        "  kubectl --namespace {} get honeygraphnodes,pods --watch",
        stage.namespace()
    );
    println!("End it:");
    println!("  cargo cluster down");
    Ok(ExitCode::SUCCESS)
}

/// Another process of this program that removes our clusters when this one has ended, however that was: after Ctrl-C or
/// a kill nobody else does.
struct Guard {
    /// Ends with this process.
    _pipe: ChildStdin,
}

impl Guard {
    fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["guard", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is not for it.
            .process_group(0)
            .spawn()
            .context("this program cannot be started again")?;
        let pipe = child.stdin.take().context("the guard has no input")?;
        Ok(Self { _pipe: pipe })
    }
}

/// What the scenarios run on.
struct Ground {
    /// Started by the first scenario that needs it, if it is the tests' own.
    cluster: Option<Cluster>,
    /// Why no scenario of level one, or of level two, can run here.
    missing: [Option<String>; 2],
    /// The level that is started, where one is.
    level: Level,
    /// Why the cluster could not be started: said once, and again in short.
    broken: bool,
}

impl Ground {
    fn find(highest: Level, chosen: &[&Scenario]) -> anyhow::Result<Self> {
        let cluster = match Cluster::given()? {
            Some(given) => Some(given),
            None => Cluster::running()?,
        };
        if let Some(cluster) = &cluster {
            println!(
                "cluster of {}: {}",
                cluster.level(),
                cluster.kubeconfig().display()
            );
        }
        let why_not = |level: Level| {
            if level > highest {
                return Some(format!("{level} is left out by --level"));
            }
            missing(level)
        };
        let [one, two] = [Level::One, Level::Two].map(why_not);
        let wants_nodes = chosen.iter().any(|scenario| scenario.needs == Needs::Nodes);
        Ok(Self {
            level: if wants_nodes && two.is_none() {
                Level::Two
            } else {
                Level::One
            },
            cluster,
            missing: [one, two],
            broken: false,
        })
    }

    fn run(&mut self, scenario: &Scenario, skip_disruptive: bool) -> Result<Completion, Failed> {
        if let Some(reason) = self.why_not(scenario, skip_disruptive) {
            return Ok(Completion::ignored_with(reason));
        }
        let mut stage = Stage::new(scenario.name, self.cluster.take());
        let prepared = self.prepare(scenario, &mut stage);
        if prepared.is_ok()
            && scenario.needs == Needs::Controllers
            && !stage.cluster().is_ok_and(Cluster::has_controllers)
        {
            self.cluster = stage.into_cluster();
            return Ok(Completion::ignored_with("the cluster has no controller manager"));
        }
        let outcome = prepared
            .and_then(|()| (scenario.run)(&mut stage))
            .and_then(|()| stage.clean());
        let failed = outcome.err().map(|error| Failed::from(stage.story(&error)));
        self.cluster = stage.into_cluster();
        failed.map_or(Ok(Completion::Completed), Err)
    }

    /// Starts a cluster for a scenario that needs one where none is.
    fn prepare(&mut self, scenario: &Scenario, stage: &mut Stage) -> anyhow::Result<()> {
        if scenario.needs == Needs::OwnCluster || stage.has_cluster() {
            return Ok(());
        }
        anyhow::ensure!(!self.broken, "no cluster could be started, as said above");
        let level = self.level;
        let started = stage.step(&format!("start a cluster of {level}"), || {
            Cluster::start_own(Options {
                level,
                audit: AuditLog::Mutating,
            })
        });
        self.broken = started.is_err();
        stage.use_cluster(started?);
        Ok(())
    }

    /// Why a scenario cannot run, or may not.
    fn why_not(&self, scenario: &Scenario, skip_disruptive: bool) -> Option<String> {
        let disruptive = scenario.labels.contains(&Label::Disruptive);
        if disruptive && skip_disruptive {
            return Some("disruptive scenarios are left out".to_owned());
        }
        let [one, two] = &self.missing;
        let missing = match scenario.needs.level() {
            Level::One => one.clone(),
            Level::Two => two.clone(),
        };
        match &self.cluster {
            // Here decides what can be started.
            None => missing,
            Some(cluster) if cluster.is_own() => missing,
            Some(_) if scenario.needs == Needs::OwnCluster => missing,
            Some(_) if disruptive => {
                Some("it is disruptive, and the cluster is not the tests' own".to_owned())
            }
            Some(cluster) if scenario.needs == Needs::Nodes && cluster.level() < Level::Two => {
                Some("the cluster has no nodes".to_owned())
            }
            Some(cluster) if scenario.needs == Needs::Nodes && !cluster.takes_images() => {
                Some("images cannot be loaded into a cluster that KUBECONFIG names".to_owned())
            }
            Some(_) => None,
        }
    }
}
