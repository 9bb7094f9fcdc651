//! The command line.
//!
//! Exit codes: 0, it was done, and nothing that was checked failed; 1, it failed, an agent did not answer, or a check
//! failed; [`EXIT_USAGE`], the command line is wrong.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use honeygraph_crds::HoneygraphNode;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use thiserror::Error;

use crate::cluster::{Cluster, ClusterError, Connection, LogOptions, Scope};
use crate::doctor::{self, DoctorReport};
use crate::gaps::{self, GapsReport};
use crate::logs;
use crate::output::{Format, OutputError, print, rendered};
use crate::paint::Paint;
use crate::peers::{self, PeersReport};
use crate::status;
use crate::sync::{self, SyncReport};

/// Exit code for a wrong command line (`EX_USAGE` of `sysexits.h`).
pub const EXIT_USAGE: u8 = 64;

#[derive(Debug, Parser)]
#[command(
    name = "kubectl-honeygraph",
    bin_name = "kubectl honeygraph",
    version,
    about = "Shows where Honeygraph nodes stand, what is wrong, and what to do"
)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Which cluster and namespace, as `kubectl` is told.
#[derive(Debug, Args)]
struct Place {
    /// Namespace; that of the context unless set
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Context of the kubeconfig; the current one unless set
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig; KUBECONFIG or ~/.kube/config unless set
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Output {
    /// Print a report for programs
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Format>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Where nodes stand, what is wrong, and what to do
    Status {
        /// Nodes; all unless named
        nodes: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Which blocks agents miss
    Gaps {
        /// Nodes; all unless named
        nodes: Vec<String>,
        /// First block; the first that a node wants unless set
        #[arg(long, value_name = "BLOCK")]
        from: Option<u64>,
        /// Last block; the newest that is known unless set
        #[arg(long, value_name = "BLOCK")]
        to: Option<u64>,
        #[command(flatten)]
        output: Output,
    },
    /// Whom agents exchange blocks with, and who answers
    Peers {
        /// Nodes; all unless named
        nodes: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Have the agents of a node fill their gaps now
    Sync {
        /// The node
        node: String,
        /// File with an API key; that of spec.peers.apiKeys unless set
        #[arg(long, value_name = "FILE")]
        api_key_file: Option<PathBuf>,
        /// How long to wait until it is done, such as 90s or 10m; agents go on after that
        #[arg(long, default_value = "10m", value_name = "TIME", value_parser = duration)]
        timeout: Duration,
        #[command(flatten)]
        output: Output,
    },
    /// Logs of all agents of a node, each line with the agent's name
    Logs {
        /// The node
        node: String,
        /// Go on with lines as they are written
        #[arg(short, long)]
        follow: bool,
        /// Of the containers before, which ended
        #[arg(short, long, conflicts_with = "follow")]
        previous: bool,
        /// Lines of each agent from the end; -1 is all
        #[arg(
            long,
            default_value_t = 100,
            allow_negative_numbers = true,
            value_name = "LINES"
        )]
        tail: i64,
        /// No line older than this, such as 5m
        #[arg(long, value_name = "TIME", value_parser = duration)]
        since: Option<Duration>,
        /// The time before each line
        #[arg(long)]
        timestamps: bool,
    },
    /// Check the installation and every node, one line a check
    Doctor {
        /// Nodes; all unless named
        nodes: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text
        .parse()
        .map_err(|_| "must be a time with its unit, such as 90s, 10m or 1h".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "must not be negative".to_owned())
}

/// Why a command ended without doing what it should.
#[derive(Debug, Error)]
enum CommandError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("--api-key-file {path}: cannot be read ({source})")]
    KeyFile { path: PathBuf, source: io::Error },
    #[error("--api-key-file {path}: holds no key; it wants one on its first line")]
    NoKey { path: PathBuf },
    #[error("several nodes are called {name}: name the namespace with -n")]
    Ambiguous { name: String },
    #[error("node {name} is not understood: use the kubectl-honeygraph of the operator's release")]
    NotUnderstood { name: String },
}

/// Whether all was well.
enum Done {
    Well,
    NotWell,
}

impl From<bool> for Done {
    fn from(well: bool) -> Self {
        if well { Self::Well } else { Self::NotWell }
    }
}

/// Runs what the command line says.
pub fn main_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Where nobody reads, there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() {
                EXIT_USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // Only fails where another was installed, and there is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}")),
    };
    match runtime.block_on(run(cli)) {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::NotWell) => ExitCode::FAILURE,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(line: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {line}");
    ExitCode::FAILURE
}

async fn run(cli: Cli) -> Result<Done, CommandError> {
    let connection = Connection {
        kubeconfig: cli.place.kubeconfig.clone(),
        context: cli.place.context.clone(),
    };
    let paint = Paint::of_stdout();
    let cluster = match Cluster::connect(&connection).await {
        Ok(cluster) => cluster,
        Err(error) => return unreachable_cluster(&cli.command, error, paint),
    };
    let scope = match (&cli.place.namespace, cli.place.all_namespaces) {
        (_, true) => Scope::All,
        (Some(namespace), false) => Scope::Namespace(namespace.clone()),
        (None, false) => Scope::Namespace(cluster.namespace().to_owned()),
    };
    match cli.command {
        Command::Status { nodes, output } => show_status(&cluster, &scope, &nodes, &output, paint).await,
        Command::Gaps {
            nodes,
            from,
            to,
            output,
        } => {
            let listed = cluster.named_nodes(&scope, &nodes).await?;
            let mut agents = Vec::new();
            for node in &listed.nodes {
                agents.extend(cluster.gaps(node, from, to).await);
            }
            let report = GapsReport::new(agents);
            print(&rendered(output.output, &report, || {
                gaps::screen(&report, paint)
            })?)?;
            Ok(report.is_complete().into())
        }
        Command::Peers { nodes, output } => {
            let listed = cluster.named_nodes(&scope, &nodes).await?;
            let sights = cluster.sights(listed.nodes).await;
            let report = PeersReport::new(sights.into_iter().flat_map(|sight| sight.agents).collect());
            print(&rendered(output.output, &report, || {
                peers::screen(&report, paint, Timestamp::now())
            })?)?;
            Ok(report.is_complete().into())
        }
        Command::Sync {
            node,
            api_key_file,
            timeout,
            output,
        } => {
            let node = one(&cluster, &scope, &node).await?;
            let key = match api_key_file {
                Some(path) => Some(key_of_file(&path)?),
                None => cluster.api_key(&node).await,
            };
            let report = SyncReport::new(cluster.fill_gaps(&node, key.as_ref(), timeout).await);
            print(&rendered(output.output, &report, || {
                sync::screen(&report, paint)
            })?)?;
            Ok(report.is_done().into())
        }
        Command::Logs {
            node,
            follow,
            previous,
            tail,
            since,
            timestamps,
        } => {
            let node = one(&cluster, &scope, &node).await?;
            let options = LogOptions {
                follow,
                previous,
                tail: (tail >= 0).then_some(tail),
                since_seconds: since.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
                timestamps,
            };
            show_logs(&cluster, &node, &options, paint).await
        }
        Command::Doctor { nodes, output } => {
            let report = match cluster.examine(&scope, &nodes).await {
                Ok(findings) => doctor::examine(&findings),
                Err(error @ ClusterError::NoSuchNode { .. }) => return Err(error.into()),
                Err(error) => without_cluster(&error),
            };
            print(&rendered(output.output, &report, || {
                doctor::screen(&report, paint)
            })?)?;
            Ok(report.is_healthy().into())
        }
    }
}

async fn show_status(
    cluster: &Cluster,
    scope: &Scope,
    names: &[String],
    output: &Output,
    paint: Paint,
) -> Result<Done, CommandError> {
    let listed = cluster.named_nodes(scope, names).await?;
    let mut checkpoints = cluster.checkpoints(scope).await;
    checkpoints.retain(|checkpoint| names.is_empty() || names.contains(&checkpoint.spec.node_ref.name));
    let sights = cluster.sights(listed.nodes).await;
    let report = status::report(&sights, &checkpoints, &listed.not_understood);
    print(&rendered(output.output, &report, || {
        status::screen(&report, &scope.place(), paint, Timestamp::now())
    })?)?;
    Ok(Done::Well)
}

/// `doctor` says in its own way that there is no cluster.
fn unreachable_cluster(command: &Command, error: ClusterError, paint: Paint) -> Result<Done, CommandError> {
    let Command::Doctor { output, .. } = command else {
        return Err(error.into());
    };
    let report = without_cluster(&error);
    print(&rendered(output.output, &report, || {
        doctor::screen(&report, paint)
    })?)?;
    Ok(Done::NotWell)
}

fn without_cluster(error: &ClusterError) -> DoctorReport {
    DoctorReport::of_failure(
        "cluster",
        error.to_string(),
        "nothing else can be checked before this",
    )
}

/// The node of a name.
async fn one(cluster: &Cluster, scope: &Scope, name: &str) -> Result<HoneygraphNode, CommandError> {
    let mut listed = cluster.named_nodes(scope, &[name.to_owned()]).await?;
    match (listed.nodes.pop(), listed.nodes.is_empty()) {
        (Some(node), true) => Ok(node),
        (Some(_), false) => Err(CommandError::Ambiguous {
            name: name.to_owned(),
        }),
        (None, _) => Err(CommandError::NotUnderstood {
            name: name.to_owned(),
        }),
    }
}

fn key_of_file(path: &Path) -> Result<SecretString, CommandError> {
    let text = std::fs::read_to_string(path).map_err(|source| CommandError::KeyFile {
        path: path.to_owned(),
        source,
    })?;
    sync::first_key(&text).ok_or_else(|| CommandError::NoKey {
        path: path.to_owned(),
    })
}

async fn show_logs(
    cluster: &Cluster,
    node: &HoneygraphNode,
    options: &LogOptions,
    paint: Paint,
) -> Result<Done, CommandError> {
    let agents = crate::sight::agent_names(node);
    let width = agents.iter().map(String::len).max().unwrap_or_default();
    let mut lines = cluster.logs(node, options);
    let mut well = true;
    while let Some(line) = lines.recv().await {
        match line.text {
            Ok(text) => {
                let mut output = io::stdout().lock();
                let shown = logs::line(&line.agent, width, &text, paint);
                if let Err(error) = writeln!(output, "{shown}").and_then(|()| output.flush()) {
                    return match error.kind() {
                        // Nobody reads any more.
                        io::ErrorKind::BrokenPipe => Ok(Done::Well),
                        _ => Err(OutputError::from(error).into()),
                    };
                }
            }
            Err(reason) => {
                well = false;
                let shown = logs::line(&line.agent, width, &reason, Paint::PLAIN);
                let _ = writeln!(io::stderr(), "{shown}");
            }
        }
    }
    Ok(well.into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_where_kubectl_has_them() {
        for line in [
            "x status -n a -o json",
            "x -A status",
            "x gaps eu --from 3 --context c --kubeconfig f",
            "x logs eu -f --tail -1 --since 5m",
            "x sync eu --timeout 90s",
            "x doctor -oyaml",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_wrong_command_line_says_what_is_allowed() {
        for (line, words) in [
            ("x status -n a -A", "cannot be used with"),
            ("x sync", "<NODE>"),
            ("x sync eu --timeout soon", "such as 90s, 10m or 1h"),
            ("x sync eu --timeout=-5s", "must not be negative"),
            ("x status -o xml", "json, yaml"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert!(
                error.use_stderr() && error.to_string().contains(words),
                "{line}: {error}"
            );
        }
    }
}
