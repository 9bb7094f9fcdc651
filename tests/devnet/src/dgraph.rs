//! The Dgraph clusters of the network: who writes which, and what goes wrong with them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use honeygraph_agent::dgraph::client::{
    DgraphClient, DgraphSettings, EndpointUrl, Mutation, Query, Reading, Uid,
};
use serde::Deserialize;

use crate::dgraph_process::{DgraphProcesses, Role};

/// Regions of a hybrid network.
const REGIONS: usize = 2;

/// Who writes which cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DgraphMode {
    /// Each node has a cluster of its own
    Independent,
    /// All nodes write one cluster
    Shared,
    /// The nodes of each of two regions write the region's cluster
    Hybrid,
}

impl DgraphMode {
    /// The name that nodes know it by.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Independent => "independent",
            Self::Shared => "shared",
            Self::Hybrid => "hybrid",
        }
    }

    /// What it means, in a line.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Independent => "each node keeps a Dgraph of its own in step",
            Self::Shared => "all nodes keep one Dgraph in step",
            Self::Hybrid => "the nodes of each of two regions keep one Dgraph in step",
        }
    }

    /// How many clusters so many nodes have.
    pub(crate) fn clusters(self, nodes: usize) -> usize {
        match self {
            Self::Independent => nodes,
            Self::Shared => 1,
            Self::Hybrid => REGIONS.min(nodes),
        }
    }

    /// The cluster of the n-th node, counted from 0.
    pub(crate) const fn cluster_of(self, place: usize) -> usize {
        match self {
            Self::Independent => place,
            Self::Shared => 0,
            Self::Hybrid => place % REGIONS,
        }
    }
}

/// What goes wrong with every cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DgraphFault {
    /// Alphas are killed, and come back when all nodes do
    AlphaKilled,
    /// Zeros are killed, and come back when all nodes do
    ZeroAway,
    /// Everything is dropped while nodes write
    Wiped,
    /// Somebody edits blocks and values
    Edited,
}

impl fmt::Display for DgraphFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AlphaKilled => "alpha-killed",
            Self::ZeroAway => "zero-away",
            Self::Wiped => "wiped",
            Self::Edited => "edited",
        })
    }
}

impl DgraphFault {
    const fn role(self) -> Option<Role> {
        match self {
            Self::AlphaKilled => Some(Role::Alpha),
            Self::ZeroAway => Some(Role::Zero),
            Self::Wiped | Self::Edited => None,
        }
    }
}

/// Where clusters come from.
#[derive(Debug, Clone)]
pub(crate) enum DgraphSource {
    /// A program that is started.
    Program(PathBuf),
    /// An alpha that runs.
    Alpha(EndpointUrl),
}

/// One cluster.
#[derive(Debug)]
struct Cluster {
    endpoint: EndpointUrl,
    /// None where it was running before.
    processes: Option<DgraphProcesses>,
    /// What somebody edited.
    edited: Vec<Uid>,
}

/// The clusters of the network.
#[derive(Debug)]
pub(crate) struct Dgraph {
    mode: DgraphMode,
    clusters: Vec<Cluster>,
}

impl Dgraph {
    /// Starts the clusters of so many nodes, or takes the one that runs.
    pub(crate) async fn start(
        mode: DgraphMode,
        source: &DgraphSource,
        nodes: usize,
        folder: &Path,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let mut clusters = Vec::new();
        match source {
            DgraphSource::Alpha(endpoint) => {
                let cluster = Cluster {
                    endpoint: endpoint.clone(),
                    processes: None,
                    edited: Vec::new(),
                };
                cluster.expect_empty().await?;
                clusters.push(cluster);
            }
            DgraphSource::Program(program) => {
                for number in 1..=mode.clusters(nodes) {
                    let name = format!("dgraph-{number}");
                    let (folder, log) = (folder.join(&name), logs.join(format!("{name}.log")));
                    let processes = DgraphProcesses::start(program, folder, log).await?;
                    clusters.push(Cluster {
                        endpoint: processes.endpoint()?,
                        processes: Some(processes),
                        edited: Vec::new(),
                    });
                }
            }
        }
        Ok(Self { mode, clusters })
    }

    /// Who writes which.
    pub(crate) const fn mode(&self) -> DgraphMode {
        self.mode
    }

    /// The alpha of the n-th node, counted from 0.
    pub(crate) fn endpoint(&self, place: usize) -> anyhow::Result<&EndpointUrl> {
        let cluster = self.clusters.get(self.mode.cluster_of(place));
        Ok(&cluster.context("no such cluster")?.endpoint)
    }

    /// Reads the cluster of the n-th node.
    pub(crate) fn reader(&self, place: usize) -> anyhow::Result<DgraphClient> {
        let cluster = self.clusters.get(self.mode.cluster_of(place));
        cluster.context("no such cluster")?.client()
    }

    /// A fault begins.
    pub(crate) async fn break_by(&mut self, fault: DgraphFault) -> anyhow::Result<()> {
        for cluster in &mut self.clusters {
            match (fault, fault.role()) {
                (_, Some(role)) => match &mut cluster.processes {
                    Some(processes) => processes.kill(role).await?,
                    None => bail!("--dgraph-fault {fault} needs a dgraph that the devnet starts: DGRAPH_BIN"),
                },
                (DgraphFault::Edited, None) => cluster.edit().await?,
                (_, None) => cluster.drop_all().await?,
            }
        }
        Ok(())
    }

    /// Brings back what a fault has ended.
    pub(crate) fn bring_back(&mut self, fault: DgraphFault) -> anyhow::Result<()> {
        let processes = self
            .clusters
            .iter_mut()
            .filter_map(|cluster| cluster.processes.as_mut());
        if let Some(role) = fault.role() {
            for processes in processes {
                processes.spawn(role)?;
            }
        }
        Ok(())
    }

    /// Whether nothing is left of what somebody edited.
    pub(crate) async fn is_mended(&self) -> anyhow::Result<bool> {
        for cluster in &self.clusters {
            if cluster.shows_edits().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends the processes.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        for cluster in &mut self.clusters {
            if let Some(processes) = &mut cluster.processes {
                processes.stop().await?;
            }
        }
        Ok(())
    }
}

/// What somebody writes over values.
const EDIT: &str = "\"edited by hand\"";

/// Nodes of a kind that are edited.
const EDITED: usize = 3;

#[derive(Deserialize, Default)]
struct Found {
    #[serde(default)]
    blocks: Vec<FoundNode>,
    #[serde(default)]
    states: Vec<FoundNode>,
    #[serde(default)]
    networks: Vec<FoundNode>,
}

#[derive(Deserialize)]
struct FoundNode {
    uid: String,
    operations: Option<String>,
    #[serde(rename = "state.value")]
    value: Option<String>,
}

impl Cluster {
    fn client(&self) -> anyhow::Result<DgraphClient> {
        let mut settings = DgraphSettings::new(vec![self.endpoint.clone()]);
        settings.max_answer_bytes = 1 << 30;
        Ok(DgraphClient::new(settings)?)
    }

    async fn ask(&self, text: String) -> anyhow::Result<Found> {
        let answer = self.client()?.query(&Query::new(text), Reading::Strict).await?;
        Ok(answer.read()?)
    }

    /// Whatever runs elsewhere may be somebody's.
    async fn expect_empty(&self) -> anyhow::Result<()> {
        let found = self
            .ask("{ networks(func: has(network)) { uid } }".to_owned())
            .await;
        let found = found.with_context(|| format!("dgraph at {}", self.endpoint))?;
        if !found.networks.is_empty() {
            bail!(
                "the dgraph at {} holds a network already; name an empty one in DGRAPH_ALPHA",
                self.endpoint
            );
        }
        Ok(())
    }

    async fn drop_all(&self) -> anyhow::Result<()> {
        let client = self.client()?;
        let mut tries = 0;
        loop {
            match client.drop_all().await {
                Ok(()) => return Ok(()),
                // It meets the nodes' transactions.
                Err(_) if tries < 100 => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(error) => return Err(error).context("dgraph cannot be wiped"),
            }
            tries += 1;
        }
    }

    async fn edit(&mut self) -> anyhow::Result<()> {
        let found = self
            .ask(format!(
                "{{ blocks(func: has(blockNum), first: {EDITED}) {{ uid }} \
                    states(func: has(state.path), first: {EDITED}) {{ uid }} }}"
            ))
            .await?;
        let mut edit = Mutation::new();
        for (nodes, predicate) in [(&found.blocks, "operations"), (&found.states, "state.value")] {
            for node in nodes {
                let uid: Uid = node.uid.parse()?;
                edit.set(uid, predicate, EDIT);
                self.edited.push(uid);
            }
        }
        if self.edited.is_empty() {
            bail!("there is nothing in dgraph to edit");
        }
        let client = self.client()?;
        loop {
            match client.write(None, vec![edit.clone()]).await {
                Ok(_) => return Ok(()),
                // It meets the nodes' transactions.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error).context("dgraph cannot be edited"),
            }
        }
    }

    async fn shows_edits(&self) -> anyhow::Result<bool> {
        if self.edited.is_empty() {
            return Ok(false);
        }
        let uids: Vec<String> = self.edited.iter().map(ToString::to_string).collect();
        let list = uids.join(", ");
        let found = self
            .ask(format!(
                "{{ blocks(func: uid({list})) {{ uid operations state.value }} }}"
            ))
            .await?;
        let is_edited = |text: &Option<String>| text.as_deref() == Some(EDIT);
        Ok(found
            .blocks
            .iter()
            .any(|node| is_edited(&node.operations) || is_edited(&node.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_one_of_the_clusters() {
        for (mode, expected) in [
            (DgraphMode::Independent, [0, 1, 2, 3, 4]),
            (DgraphMode::Shared, [0; 5]),
            (DgraphMode::Hybrid, [0, 1, 0, 1, 0]),
        ] {
            let places: Vec<_> = (0..5).map(|place| mode.cluster_of(place)).collect();
            assert_eq!(places, expected);
            let highest = places.iter().max().map(|highest| highest + 1);
            assert_eq!(highest, Some(mode.clusters(5)));
        }
    }

    #[test]
    fn a_mode_is_named_as_nodes_name_it() {
        for mode in DgraphMode::value_variants() {
            let node: honeygraph_agent::config::DgraphMode = mode.name().parse().unwrap();
            assert_eq!(node.to_string(), mode.name());
            assert_eq!(mode.to_possible_value().unwrap().get_name(), mode.name());
        }
        for fault in DgraphFault::value_variants() {
            assert_eq!(fault.to_possible_value().unwrap().get_name(), fault.to_string());
        }
    }
}
