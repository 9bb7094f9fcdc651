//! What the command can be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

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
}
