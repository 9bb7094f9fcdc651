//! A small honeygraph network on one machine that is broken and heals: `docs/devnet.md`.
//!
//! Every node is a process of its own, this program started again as the agent, and is only ever spoken to over
//! its sockets.

mod agent_process;
mod api;
mod arguments;
mod convergence;
mod damage;
mod dgraph;
mod dgraph_process;
mod display;
#[path = "../../../agent/tests/dgraph/equality.rs"]
mod equality;
mod fetched;
mod gap_bar;
mod honeycombs;
mod lines;
mod network;
mod observation;
mod plan;
mod ports;
mod recorded;
mod story;
mod summary;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;
use dgraph::Dgraph;
use display::print_line;
use network::{Folders, Network};
use ports::Ports;
use story::Story;

/// Exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// How a run ended.
#[derive(Debug)]
enum Ending {
    Healed,
    Interrupted,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_else(|| OsString::from("devnet"));
    let mut rest = arguments.peekable();
    if rest.peek().is_some_and(|first| first == agent_process::AGENT) {
        rest.next();
        return agent_process::run_agent([program].into_iter().chain(rest).collect());
    }
    if rest.peek().is_some_and(|first| first == dgraph_process::KEEPER) {
        return dgraph_process::keep(&rest.skip(1).collect::<Vec<_>>());
    }
    let arguments = Arguments::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")
        .and_then(|runtime| runtime.block_on(devnet(arguments)));
    match ended {
        Ok(Ending::Healed) => ExitCode::SUCCESS,
        Ok(Ending::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("devnet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a network to its end; nothing of it is left running, whatever happens.
async fn devnet(arguments: Arguments) -> anyhow::Result<Ending> {
    let dgraph = arguments.dgraph()?;
    let place = Place::prepare(&arguments)?;
    let ports = match arguments.port_base {
        Some(base) => Ports::at(base, arguments.nodes)?,
        None => Ports::free(arguments.nodes)?,
    };
    let plan = plan::nodes(arguments.nodes);
    let dgraph = match dgraph {
        Some((mode, source)) => {
            let Folders { network, logs } = &place.folders;
            Some(Dgraph::start(mode, &source, plan.len(), network, logs).await?)
        }
        None => None,
    };
    let network = Network::prepare(&plan, arguments.seed, ports, &place.folders, dgraph).await?;
    let keep = arguments.keep;
    let mut story = Story::new(arguments, network)?;
    let mut ended = unless_interrupted(story.play()).await;
    if keep && matches!(ended, Ok(Ending::Healed)) {
        print_line(&description(story.network(), &place.folders));
        // Ctrl-C is how this is meant to end.
        ended = unless_interrupted(story.keep()).await.map(|_| Ending::Healed);
    }
    let stopped = story.end().await;
    if keep {
        place.keep();
    }
    let ending = ended?;
    stopped?;
    Ok(ending)
}

/// Does something until it is done, or until Ctrl-C or SIGTERM.
async fn unless_interrupted(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Ending> {
    tokio::select! {
        done = work => done.map(|()| Ending::Healed),
        interrupted = interruption() => interrupted.map(|()| Ending::Interrupted),
    }
}

/// Returns at Ctrl-C and at SIGTERM.
async fn interruption() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("Ctrl-C cannot be heard"),
        _ = terminated.recv() => Ok(()),
    }
}

/// Where the network is on disk.
struct Place {
    folders: Folders,
    temporary: Option<TempDir>,
}

impl Place {
    fn prepare(arguments: &Arguments) -> anyhow::Result<Self> {
        let (network, temporary) = match &arguments.directory {
            Some(directory) => {
                create_empty(directory)?;
                (absolute(directory)?, None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("honeygraph-devnet-").tempdir();
                let temporary = temporary.context("no temporary folder can be made")?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let logs = match &arguments.log_directory {
            Some(directory) => absolute(directory)?,
            None => network.join("logs"),
        };
        std::fs::create_dir_all(&logs).with_context(|| format!("{} cannot be made", logs.display()))?;
        Ok(Self {
            folders: Folders { network, logs },
            temporary,
        })
    }

    /// Leaves a temporary folder where it is.
    fn keep(self) {
        if let Some(temporary) = self.temporary {
            print_line(&format!("stores and logs are in {}", temporary.keep().display()));
        }
    }
}

/// The whole path, for those who read it elsewhere.
fn absolute(directory: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(directory).with_context(|| directory.display().to_string())
}

fn create_empty(directory: &Path) -> anyhow::Result<()> {
    let name = || directory.display().to_string();
    std::fs::create_dir_all(directory).with_context(name)?;
    let mut entries = std::fs::read_dir(directory).with_context(name)?;
    anyhow::ensure!(
        entries.next().is_none(),
        "{} is not empty; name a new folder",
        name()
    );
    Ok(())
}

/// How to look at a network that is left running.
fn description(network: &Network, folders: &Folders) -> String {
    let mut lines = vec!["The network stays, with a block every 3 s, until Ctrl-C:".to_owned()];
    for node in &network.nodes {
        lines.push(format!(
            "  {}  API {}  admin http://{}  metrics http://{}/metrics",
            node.name,
            node.url(),
            node.ports.admin,
            node.ports.metrics
        ));
    }
    if let Some(dgraph) = &network.dgraph {
        for (place, node) in network.nodes.iter().enumerate() {
            if let Ok(endpoint) = dgraph.endpoint(place) {
                lines.push(format!("  {}  Dgraph {endpoint}", node.name));
            }
        }
    }
    lines.push(format!("  logs {}", folders.logs.display()));
    let url = network.nodes.last().map(network::Node::url).unwrap_or_default();
    for call in [
        "api/sync/status",
        "api/sync/gaps",
        "api/query/state/stats",
        "openapi.json",
    ] {
        lines.push(format!("  curl {url}/{call}"));
    }
    if let Some(node) = network.nodes.last() {
        let token: &PathBuf = &network.admin_token_file;
        lines.push(format!(
            "  curl -H \"Authorization: Bearer $(cat {})\" http://{}/status",
            token.display(),
            node.ports.admin
        ));
    }
    lines.join("\n")
}
