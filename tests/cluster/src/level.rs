//! How much of a cluster there is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much of a cluster is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback: a real API without nodes. Needs
    /// no rights.
    One,
    /// Level one and three nodes, one a region, that run pods: containerd, kubelet, kube-proxy, cluster DNS. Needs root.
    Two,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::One => "level one",
            Self::Two => "level two",
        })
    }
}
