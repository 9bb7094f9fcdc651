//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use honeygraph_test_cluster::{Level, ToolSet};

/// A real Kubernetes cluster on this machine, of the upstream programs, for tests of the operator.
///
/// With `KUBECONFIG` set, `test` uses the cluster that it names. With `KUBEBUILDER_ASSETS` set, level one uses the programs
/// in that folder instead of building them.
#[derive(Debug, Parser)]
#[command(name = "cargo cluster", bin_name = "cargo cluster")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster that stays until `down`
    Up {
        /// one: the API alone, needs no rights; two: three nodes that run pods, needs root
        #[arg(long, value_enum, default_value_t = Level::Two)]
        level: Level,
        /// Write every request that changes something to logs/audit.jsonl
        #[arg(long)]
        audit: bool,
    },
    /// End the cluster and remove all it took of this machine, also after a kill
    Down {
        /// Clusters that a running test uses too
        #[arg(long)]
        all: bool,
    },
    /// Show what runs
    Status,
    /// Print what a shell needs to use the cluster: eval "$(cargo cluster env)"
    Env,
    /// Build the pinned programs that are not yet built, and print their folders
    Tools {
        /// Which; those of level two if none is named
        #[arg(value_enum)]
        sets: Vec<ToolSet>,
    },
    /// Make an image of a program of this machine and load it into every node
    Load {
        /// Registry, path and tag: honeygraph.test/agent:1
        name: String,
        /// The program; its shared libraries come with it
        program: PathBuf,
    },
    /// Check a configuration of kind with kind's own loader; needs no Docker
    CheckKind {
        /// The configuration
        file: PathBuf,
    },
    /// Check that `manifests/` is what the chart makes, and that kubectl can build it
    Manifests {
        /// Write it anew
        #[arg(long)]
        write: bool,
    },
    /// Install the operator in a cluster that stays, and show three regions that agree
    Demo,
    /// Run the scenarios
    Test(TestArguments),
    /// Remove the clusters of a process when it ends
    #[command(hide = true)]
    Guard {
        /// That process; our standard input ends with it
        process: u32,
    },
}

#[derive(Args, Debug)]
pub(crate) struct TestArguments {
    /// Parts of names of scenarios; all if none is named
    pub(crate) scenarios: Vec<String>,
    /// The highest level to run; others are listed as skipped
    #[arg(long, value_enum, default_value_t = Level::Two)]
    pub(crate) level: Level,
    /// Leave out scenarios that break what they run on
    #[arg(long)]
    pub(crate) skip_disruptive: bool,
    /// List the scenarios and run none
    #[arg(long)]
    pub(crate) list: bool,
}
