//! Why a cluster could not be asked, and what to do.

use kube::config::KubeconfigError;
use thiserror::Error;

/// Why a cluster could not be asked.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// There is no configuration, or it has no such context.
    #[error(
        "no cluster is configured ({0}): set KUBECONFIG or --kubeconfig; `kubectl config get-contexts` lists what --context may name"
    )]
    Configuration(Box<KubeconfigError>),
    /// A client cannot be made of the configuration.
    #[error("the cluster's configuration cannot be used ({0}): see `kubectl config view --minify`")]
    Client(Box<kube::Error>),
    /// There is no way to the API server.
    #[error(
        "the API server {server} does not answer ({reason}): is the cluster up, and is this machine in its network?"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// The cause.
        reason: String,
    },
    /// It does not know the caller.
    #[error(
        "the API server {server} does not know you: log in again; `kubectl auth whoami` shows as whom you come"
    )]
    Unauthorized {
        /// Its address.
        server: String,
    },
    /// The caller may not.
    #[error(
        "you may not {action} {place}: name a namespace of yours with -n, or ask for the ClusterRole `view` there, which the chart extends"
    )]
    Forbidden {
        /// What was tried.
        action: String,
        /// Where.
        place: String,
    },
    /// The cluster does not have our resources.
    #[error(
        "this cluster has no HoneygraphNodes: install the chart (docs/operator.md), or name another cluster with --context"
    )]
    NotInstalled,
    /// No node has this name.
    #[error("there is no node {name} {place}; {}", listed(others))]
    NoSuchNode {
        /// The name.
        name: String,
        /// Where it was looked for.
        place: String,
        /// The names that are there.
        others: Vec<String>,
    },
    /// Anything else.
    #[error("could not {action} {place}: {reason}")]
    Failed {
        /// What was tried.
        action: String,
        /// Where.
        place: String,
        /// What the API server said.
        reason: String,
    },
}

impl ClusterError {
    pub(super) fn explained(error: kube::Error, action: &str, place: &str, server: &str) -> Self {
        let server = server.to_owned();
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::Unauthorized { server },
                403 => Self::Forbidden {
                    action: action.to_owned(),
                    place: place.to_owned(),
                },
                404 => Self::NotInstalled,
                _ => Self::Failed {
                    action: action.to_owned(),
                    place: place.to_owned(),
                    reason: status.message.clone(),
                },
            },
            kube::Error::Auth(error) => Self::Failed {
                action: "log in".to_owned(),
                place: format!("to {server}"),
                reason: root_cause(&error),
            },
            error @ (kube::Error::Service(_) | kube::Error::HyperError(_)) => Self::Unreachable {
                server,
                reason: root_cause(&error),
            },
            error => Self::Failed {
                action: action.to_owned(),
                place: place.to_owned(),
                reason: root_cause(&error),
            },
        }
    }
}

/// The last cause says most: `Connection refused` rather than `service error`.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn listed(others: &[String]) -> String {
    match others {
        [] => "there is none at all: -A looks everywhere".to_owned(),
        others => format!("there are: {}", others.join(", ")),
    }
}
