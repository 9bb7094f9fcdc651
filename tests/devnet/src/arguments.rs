//! What the command can be told.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Parser;
use honeygraph_agent::dgraph::client::EndpointUrl;

use crate::dgraph::{DgraphFault, DgraphMode, DgraphSource};

/// Starts a small honeygraph network on this machine, breaks it, and shows it heal.
///
/// A stand-in for a honeycomb network replays a chain on the published state of a real network and goes on with
/// generated blocks. One node is killed while the chain grows, one loses ranges of blocks, one loses everything.
/// The exit code is 0 only when all nodes have the same head, the same state hash and no gap.
#[derive(Debug, Clone, Parser)]
#[command(name = "devnet", version)]
pub(crate) struct Arguments {
    /// Nodes of the network
    #[arg(long, value_name = "NODES", default_value_t = 5, value_parser = clap::value_parser!(u16).range(3..=16))]
    pub nodes: u16,

    /// Blocks that the chain grows by after the 500 recorded ones, rounded up to whole checkpoint periods of 100
    #[arg(long, value_name = "BLOCKS", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    pub blocks: u64,

    /// Time from one block to the next; a real network takes 3000
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub block_interval: u64,

    /// Seed of the generated blocks and of the damage: the same seed gives the same chain
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    /// Longest time that the network may take for one step, such as to heal
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,

    /// Folder for the nodes' stores, kept afterwards; without it a temporary one that is removed
    #[arg(long, value_name = "PATH")]
    pub directory: Option<PathBuf>,

    /// Folder for the nodes' logs, kept afterwards; without it they are in the network's folder
    #[arg(long, value_name = "PATH")]
    pub log_directory: Option<PathBuf>,

    /// First port of the network; without it free ones are looked for. Node n has this + 10 n (API), + 1 (ingest),
    /// + 2 (admin) and + 3 (metrics)
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1_024..=65_000))]
    pub port_base: Option<u16>,

    /// Have every node keep a Dgraph in step: who writes which cluster. The clusters are started from
    /// `DGRAPH_BIN`, or there is one that runs, at `DGRAPH_ALPHA`
    #[arg(long, value_name = "MODE")]
    pub dgraph_mode: Option<DgraphMode>,

    /// What goes wrong with each Dgraph while nodes are broken
    #[arg(long, value_name = "FAULT", requires = "dgraph_mode")]
    pub dgraph_fault: Option<DgraphFault>,

    /// Program of Dgraph, 25.4 or newer
    #[arg(long, env, value_name = "PATH")]
    pub dgraph_bin: Option<PathBuf>,

    /// An alpha that runs and holds no network, for `--dgraph-mode shared`; `http://host:9080`
    #[arg(long, env, value_name = "ADDRESS")]
    pub dgraph_alpha: Option<EndpointUrl>,

    /// Leave the network running at the end, one block every 3 s, until Ctrl-C
    #[arg(long)]
    pub keep: bool,

    /// Print the result alone
    #[arg(long)]
    pub quiet: bool,
}

impl Arguments {
    /// Time from one block to the next.
    pub(crate) const fn block_interval(&self) -> Duration {
        Duration::from_millis(self.block_interval)
    }

    /// Who writes which Dgraph, and where it comes from; none without one.
    pub(crate) fn dgraph(&self) -> anyhow::Result<Option<(DgraphMode, DgraphSource)>> {
        let Some(mode) = self.dgraph_mode else {
            return Ok(None);
        };
        let source = match (&self.dgraph_bin, &self.dgraph_alpha) {
            (Some(program), _) => DgraphSource::Program(program.clone()),
            (None, Some(alpha)) if mode == DgraphMode::Shared => DgraphSource::Alpha(alpha.clone()),
            (None, Some(_)) => bail!(
                "--dgraph-mode {} needs several clusters, DGRAPH_ALPHA names one: name the program in DGRAPH_BIN",
                mode.name()
            ),
            (None, None) => bail!("--dgraph-mode needs a dgraph: name its program in DGRAPH_BIN"),
        };
        Ok(Some((mode, source)))
    }

    /// Longest time for one step.
    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_network_has_at_least_three_nodes() {
        let parse = |nodes| Arguments::try_parse_from(["devnet", "--nodes", nodes]);
        assert!(parse("2").is_err());
        assert_eq!(parse("3").unwrap().nodes, 3);
    }

    #[test]
    fn each_dgraph_mode_says_what_it_needs() {
        let parse = |arguments: &[&str]| {
            let arguments = ["devnet"].iter().chain(arguments);
            let mut parsed = Arguments::try_parse_from(arguments)?;
            // Not those of whoever runs the tests.
            if parsed.dgraph_bin != Some("bin".into()) {
                parsed.dgraph_bin = None;
            }
            if parsed.dgraph_alpha != Some("http://alpha".parse().unwrap()) {
                parsed.dgraph_alpha = None;
            }
            Ok::<_, clap::Error>(parsed.dgraph().map_err(|error| error.to_string()))
        };
        assert!(parse(&[]).unwrap().unwrap().is_none());
        assert!(parse(&["--dgraph-fault", "wiped"]).is_err());
        let alpha = ["--dgraph-alpha", "http://alpha"];
        for mode in ["independent", "shared", "hybrid"] {
            let with = |more: &[&str]| parse(&[&["--dgraph-mode", mode], more].concat()).unwrap();
            assert!(with(&["--dgraph-bin", "bin"]).unwrap().is_some());
            assert!(with(&[]).unwrap_err().contains("DGRAPH_BIN"));
            match with(&alpha) {
                Ok(found) => assert!(mode == "shared" && found.is_some()),
                Err(error) => assert!(mode != "shared" && error.contains("DGRAPH_ALPHA"), "{error}"),
            }
        }
    }
}
