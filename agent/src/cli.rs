//! The command line: `honeygraph-agent run` and the offline tools.
//!
//! Exit codes: 0, everything is fine; 1, it failed or something is wrong; [`EXIT_USAGE`], a flag or setting is
//! wrong, which is said in one line on standard error.

mod dgraph;
mod health;
mod offline;
mod progress;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use honeygraph_chain::BlockNumber;
use honeygraph_chain::ContentId;

use crate::config::{
    EXIT_USAGE, Maybe, NetworkConfig, RawConfig, TrustedCheckpoint, document_bytes_max, listener,
    network_name, read_small_file, trusted_checkpoint, usage_line, validate,
};
use crate::dgraph::job::Order;
use crate::store::Store;
use crate::store::transfer::Overwrite;
use crate::wire::NetworkName;

/// The command line of the agent.
#[derive(Debug, Parser)]
#[command(
    name = "honeygraph-agent",
    version,
    about = "A verified, self-healing replica of one honeycomb network",
    arg_required_else_help = false
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node
    Run(Box<RawConfig>),
    /// Compare a file of protocol vectors with this implementation
    Conformance(ConformanceArguments),
    /// Verify everything that is stored; the node has to be stopped
    Check(CheckArguments),
    /// Write blocks and what a node starts from to a file; the node has to be stopped
    Export(ExportArguments),
    /// Take a file that another node exported; the node has to be stopped
    Import(ImportArguments),
    /// Compare a node's Dgraph with its log, or fill it; with the settings of `run`, beside a running node or without
    Dgraph {
        #[command(subcommand)]
        command: DgraphCommand,
    },
    /// Ask the node that runs here whether it is ready; exit code 0 when it is
    Health(HealthArguments),
    /// Print the OpenAPI document of the public API
    Openapi,
}

#[derive(Debug, Args)]
struct ConformanceArguments {
    /// The file, of the form of `chain/tests/data/honeycomb.json`
    file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum DgraphCommand {
    /// Compare everything that stands in Dgraph with the log; exit code 0 where nothing differs
    Verify(Box<VerifyArguments>),
    /// Write everything of the log that is missing in Dgraph
    Rebuild(Box<RebuildArguments>),
}

#[derive(Debug, Args)]
struct VerifyArguments {
    /// Write what differs as the log has it, and compare once more
    #[arg(long)]
    repair: bool,

    #[command(flatten)]
    config: RawConfig,
}

#[derive(Debug, Args)]
struct RebuildArguments {
    /// First take everything away that stands in the Dgraph namespace, whoever wrote it
    #[arg(long)]
    drop: bool,

    #[command(flatten)]
    config: RawConfig,
}

/// Which store, of which network.
#[derive(Debug, Clone, Args)]
struct OfflineArguments {
    /// Folder of the store
    #[arg(long, env, value_name = "PATH", default_value = "./data")]
    data_dir: PathBuf,

    /// Prefix of the honeycomb network that the store belongs to
    #[arg(long, env, value_name = "NAME", default_value = "spkcc", value_parser = network_name)]
    network: NetworkName,
}

#[derive(Debug, Args)]
struct CheckArguments {
    #[command(flatten)]
    store: OfflineArguments,

    /// Remove damaged and unlinked blocks and rows, so that the node fetches them again
    #[arg(long)]
    repair: bool,
}

#[derive(Debug, Args)]
struct ExportArguments {
    /// The file to write
    file: PathBuf,

    #[command(flatten)]
    store: OfflineArguments,

    /// First block; without it the lowest that is stored
    #[arg(long, value_name = "BLOCK")]
    from: Option<BlockNumber>,

    /// Last block; without it the highest whose state is applied
    #[arg(long, value_name = "BLOCK")]
    to: Option<BlockNumber>,

    /// Replace the file if it is there already
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct ImportArguments {
    /// The file to take
    file: PathBuf,

    #[command(flatten)]
    store: OfflineArguments,

    /// Checkpoint that you vouch for: the file has to prove it before anything of it is taken
    #[arg(long, env, value_name = "BLOCK:CONTENT_ID", default_value = "", hide_default_value = true, value_parser = trusted_checkpoint)]
    trusted_checkpoint: Maybe<TrustedCheckpoint>,

    /// Largest full state document that is taken
    #[arg(long, env, value_name = "BYTES", default_value = "1073741824", value_parser = document_bytes_max)]
    document_bytes_max: u64,
}

#[derive(Debug, Args)]
struct HealthArguments {
    /// Listener of probes and metrics of the running node
    #[arg(long, env, value_name = "ADDRESS", default_value = "0.0.0.0:9100", value_parser = listener)]
    metrics_listen: SocketAddr,
}

/// Runs the program with these arguments, the program's name first.
pub fn main_from(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return usage(usage_line(&error, &Cli::command())),
        Err(help) => {
            // Help or the version; where nobody reads it there is nothing to do about that.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    cli.run()
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> ExitCode {
        let outcome = match self.command {
            Command::Run(raw) => return run_node(*raw),
            Command::Conformance(arguments) => offline::conformance(&arguments.file),
            Command::Check(arguments) => {
                let repair = if arguments.repair {
                    offline::Repair::Yes
                } else {
                    offline::Repair::No
                };
                offline::check(&arguments.store, repair)
            }
            Command::Export(arguments) => {
                if let (Some(from), Some(to)) = (arguments.from, arguments.to)
                    && from > to
                {
                    return usage(format_args!(
                        "--from={from}: not allowed; allowed: up to --to={to}"
                    ));
                }
                let overwrite = if arguments.force {
                    Overwrite::Replace
                } else {
                    Overwrite::Refuse
                };
                let range = (arguments.from, arguments.to);
                offline::export(&arguments.store, &arguments.file, range, overwrite)
            }
            Command::Import(arguments) => offline::import(
                &arguments.store,
                &arguments.file,
                arguments
                    .trusted_checkpoint
                    .map(|trusted| (trusted.block, trusted.content_id)),
                arguments.document_bytes_max,
            ),
            Command::Dgraph { command } => {
                let (order, raw) = match command {
                    DgraphCommand::Verify(arguments) => {
                        let VerifyArguments { repair, config } = *arguments;
                        (Order::Verify { repair }, config)
                    }
                    DgraphCommand::Rebuild(arguments) => {
                        let RebuildArguments { drop, config } = *arguments;
                        (Order::Rebuild { drop }, config)
                    }
                };
                let token_file = raw.access.admin_token_file.clone();
                let config = match validate(raw, &read_small_file) {
                    Ok(config) => config,
                    Err(error) => return usage(error),
                };
                match &config.dgraph {
                    Some(cluster) => dgraph::admin_token(token_file.as_deref())
                        .and_then(|token| dgraph::run(&config, cluster, token, order)),
                    None => {
                        return usage("DGRAPH_ALPHA: needed for this; name the alphas of the node's cluster");
                    }
                }
            }
            Command::Health(arguments) => health::health(arguments.metrics_listen),
            Command::Openapi => crate::api::openapi()
                .to_pretty_json()
                .map_err(Into::into)
                .map(|text| {
                    say(text);
                    ExitCode::SUCCESS
                }),
        };
        outcome.unwrap_or_else(|error| failure(&error))
    }
}

fn run_node(raw: RawConfig) -> ExitCode {
    let config = match validate(raw, &read_small_file) {
        Ok(config) => config,
        Err(error) => return usage(error),
    };
    if let Err(error) = check_genesis(&config.network, &config.node.data_dir) {
        return usage(error);
    }
    let outcome = crate::logging::init(&config.logging)
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(crate::node::run(config))
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

/// Whether the genesis document can be read and is the one that is meant. Where the store was started from a document
/// already this one is not read again, which takes long where it is large: that it is there is enough.
fn check_genesis(network: &NetworkConfig, data_dir: &Path) -> Result<(), String> {
    let Some(path) = &network.genesis_file else {
        return Ok(());
    };
    let found = if Store::was_started(data_dir) {
        std::fs::File::open(path).and_then(first_byte).map(|()| None)
    } else {
        std::fs::File::open(path).and_then(ContentId::of_reader).map(Some)
    };
    let found = found.map_err(|error| {
        format!(
            "GENESIS_FILE={}: cannot be read: {error}; name a readable file",
            path.display()
        )
    })?;
    match network.genesis_id.zip(found) {
        Some((wanted, found)) if wanted != found => Err(format!(
            "GENESIS_ID={wanted}: {} has content id {found}; correct one of them",
            path.display()
        )),
        _ => Ok(()),
    }
}

/// Reads the first byte: a directory and an empty file have none.
fn first_byte(mut file: std::fs::File) -> std::io::Result<()> {
    std::io::Read::read_exact(&mut file, &mut [0])
}

fn usage(line: impl std::fmt::Display) -> ExitCode {
    complain(line);
    ExitCode::from(EXIT_USAGE)
}

fn failure(error: &anyhow::Error) -> ExitCode {
    // Causes behind the first are on the same line.
    let line = format!("{error:#}");
    complain(format_args!(
        "error: {}",
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    ));
    ExitCode::FAILURE
}

/// A line on standard error; a closed one is no reason to panic.
fn complain(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line on standard output.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
