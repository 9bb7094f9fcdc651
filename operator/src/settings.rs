//! What the operator is told at its start: flags, or environment variables of the same names.

use std::net::SocketAddr;

use clap::Args;

/// Image of the agent of this release.
const AGENT_IMAGE: &str = concat!("honeygraph-agent:", env!("CARGO_PKG_VERSION"));
/// Image of Dgraph that this release was tested with.
const DGRAPH_IMAGE: &str = "dgraph/dgraph:v25.4.0";

/// Settings of `honeygraph-operator run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Settings {
    /// Images of nodes whose spec names none
    #[command(flatten)]
    pub images: Images,
    /// The operator's own pods
    #[command(flatten)]
    pub operator_pods: OperatorPods,
    /// Namespace whose nodes are reconciled; those of all namespaces unless set
    #[arg(long, env = "WATCH_NAMESPACE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub watch_namespace: Option<String>,
    /// Listener of probes and metrics
    #[arg(long, env = "METRICS_LISTEN", default_value = "0.0.0.0:8080")]
    pub metrics_listen: SocketAddr,
    /// Nodes that are reconciled at once
    #[arg(long, env = "RECONCILE_CONCURRENT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub reconcile_concurrent: u16,
    /// Name of the Lease by which one of several operators leads
    #[arg(long, env = "LEASE_NAME", default_value = "honeygraph-operator")]
    pub lease_name: String,
    /// Seconds after which another operator leads where this one is not heard of
    #[arg(long, env = "LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=300))]
    pub lease_seconds: u64,
    /// Name of this operator among others; its pod's name
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,
    /// How log lines are written
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Which log lines are written: a level, or a filter a module
    #[arg(long, env = "LOG", default_value = "info")]
    pub log: String,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Images that nodes get where their spec names none.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Images {
    /// Image of agents
    #[arg(long = "agent-image", env = "AGENT_IMAGE", default_value = AGENT_IMAGE)]
    pub agent: String,
    /// Image of Dgraph, 25.4 or newer
    #[arg(long = "dgraph-image", env = "DGRAPH_IMAGE", default_value = DGRAPH_IMAGE)]
    pub dgraph: String,
}

/// Where the operator's own pods are, so that agents let them in.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct OperatorPods {
    /// Namespace of the operator's pods, which agents let in, and of its Lease
    #[arg(
        long = "pod-namespace",
        env = "POD_NAMESPACE",
        default_value = "honeygraph-system"
    )]
    pub namespace: String,
}
