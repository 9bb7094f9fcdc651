//! The network: honeycombs, node processes, and what they are told.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use futures_util::future::join_all;
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::{BlockNumber, BlockRange};
use honeygraph_honeycomb::peer_list::ListedPeer;

use crate::agent_process::{AgentProcess, last_lines};
use crate::api::Api;
use crate::dgraph::Dgraph;
use crate::honeycombs::{self, Honeycombs};
use crate::observation::{Condition, NodePicture, Picture, RateMeter};
use crate::plan::{Fate, Feed, PlannedNode};
use crate::ports::{NodePorts, Ports};

/// Lines of a node's log that are shown when it ends unexpectedly.
const SHOWN_LOG_LINES: usize = 12;

/// Settings that fit a chain whose blocks come 300 times as fast as Hive's, and peers that all have one address.
const PACE: [(&str, &str); 5] = [
    ("sync-interval", "200"),
    ("limit-rate-per-address", "100000"),
    ("limit-rate-per-peer", "100000"),
    ("commit-interval-ms", "50"),
    ("shutdown-timeout-ms", "5000"),
];

/// Where everything is on disk.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    /// Stores and tokens.
    pub network: PathBuf,
    /// Logs.
    pub logs: PathBuf,
}

/// How a node begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// With the genesis document of the network.
    Genesis,
    /// With what its store holds; where that is nothing, with a state that its peers have.
    Store,
}

/// A node of the network.
pub(crate) struct Node {
    /// Its name.
    pub name: String,
    /// Where its blocks come from, and what it goes through.
    pub plan: PlannedNode,
    /// Its listeners.
    pub ports: NodePorts,
    /// Folder of its store.
    pub data: PathBuf,
    log: PathBuf,
    settings: Vec<OsString>,
    process: Option<AgentProcess>,
    absence: &'static str,
    /// What it lacked when it was last seen, of the chain up to this block; none where it holds nothing.
    lacked: Option<(IntervalSet, BlockNumber)>,
    meter: RateMeter,
}

/// The network.
pub(crate) struct Network {
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// What feeds them.
    pub honeycombs: Honeycombs,
    /// The Dgraph clusters that they keep in step.
    pub dgraph: Option<Dgraph>,
    /// How they are read.
    pub api: Api,
    /// File with the token of the admin APIs.
    pub admin_token_file: PathBuf,
    genesis: Vec<OsString>,
}

impl Network {
    /// Prepares the files, and the honeycombs at their genesis. No node runs yet.
    pub(crate) async fn prepare(
        plan: &[PlannedNode],
        seed: u64,
        ports: Ports,
        folders: &Folders,
        dgraph: Option<Dgraph>,
    ) -> anyhow::Result<Self> {
        let honeycombs = Honeycombs::start(seed, ports).await?;
        let genesis_file = write(&folders.network.join("genesis.json"), &honeycombs.genesis())?;
        let sources_file = write(
            &folders.network.join("honeycombs"),
            honeycombs.sources_file().as_bytes(),
        )?;
        let token = uuid::Uuid::new_v4().simple().to_string();
        let admin_token_file = write(&folders.network.join("admin-token"), token.as_bytes())?;
        let genesis = flags([
            ("genesis-file", genesis_file.into_os_string()),
            ("genesis-id", honeycombs.genesis_id().to_string().into()),
        ]);

        let places: Vec<_> = (0..)
            .zip(plan)
            .map(|(place, plan)| (ports.node(place), *plan))
            .collect();
        let alphas = match &dgraph {
            Some(dgraph) => (0..places.len())
                .map(|place| Ok(Some((dgraph.mode(), dgraph.endpoint(place)?.to_string()))))
                .collect::<anyhow::Result<Vec<_>>>()?,
            None => vec![None; places.len()],
        };
        let nodes: Vec<_> = (1..)
            .zip(&places)
            .zip(alphas)
            .map(|((number, (ports, plan)), alpha)| {
                let name = format!("node-{number}");
                let data = folders.network.join(&name);
                let mut settings = common_settings(&name, ports, &data, &admin_token_file, &honeycombs);
                if let Some((mode, alpha)) = alpha {
                    settings.extend(flags([
                        ("dgraph-mode", mode.name().into()),
                        ("dgraph-alpha", alpha.into()),
                    ]));
                }
                let others = places.iter().filter(|(other, _)| other != ports);
                settings.extend(flags([(
                    "peers",
                    list(others.clone().map(|(ports, _)| url(ports))),
                )]));
                settings.extend(match plan.feed {
                    Feed::Honeycombs => flags([
                        ("honeycomb-sources-file", sources_file.clone().into_os_string()),
                        ("voters", list(honeycombs::NAMES.map(str::to_owned))),
                    ]),
                    Feed::Peers => {
                        let fed = others.filter(|(_, plan)| plan.feed == Feed::Honeycombs);
                        flags([("voters", list(fed.map(|(ports, _)| url(ports))))])
                    }
                });
                Node {
                    log: folders.logs.join(format!("{name}.log")),
                    name,
                    plan: *plan,
                    ports: *ports,
                    data,
                    settings,
                    process: None,
                    absence: "waiting",
                    lacked: None,
                    meter: RateMeter::default(),
                }
            })
            .collect();
        let listed = nodes.iter().map(|node| ListedPeer {
            id: node.name.clone(),
            url: url(&node.ports),
        });
        honeycombs.list(&listed.collect::<Vec<_>>());
        Ok(Self {
            nodes,
            honeycombs,
            dgraph,
            api: Api::new()?,
            admin_token_file,
            genesis,
        })
    }

    /// Starts a node.
    pub(crate) fn start(&mut self, place: usize, beginning: Beginning) -> anyhow::Result<()> {
        let Some(node) = self.nodes.get_mut(place) else {
            return Ok(());
        };
        let mut settings = node.settings.clone();
        if beginning == Beginning::Genesis {
            settings.extend(self.genesis.iter().cloned());
            if node.plan.feed == Feed::Honeycombs {
                settings.extend(flags([("init-chain", "true".into())]));
            }
        }
        node.meter.clear();
        node.process = Some(AgentProcess::start(&settings, &node.log).with_context(|| node.name.clone())?);
        Ok(())
    }

    /// Lets the honeycombs push to the nodes that they feed.
    pub(crate) fn feed(&self) {
        for node in self
            .nodes
            .iter()
            .filter(|node| node.plan.feed == Feed::Honeycombs)
        {
            self.honeycombs.feed(&node.name, node.ports.ingest);
        }
    }

    /// Every block there is; the first one where there is none.
    pub(crate) fn chain(&self) -> BlockRange {
        let first = self.honeycombs.first_block();
        BlockRange::new(first, self.honeycombs.head()).unwrap_or(BlockRange::single(first))
    }

    /// The places of the nodes with a fate.
    pub(crate) fn with(&self, fate: Fate) -> Option<usize> {
        self.nodes.iter().position(|node| node.plan.fate == fate)
    }

    /// Looks at every node.
    pub(crate) async fn look(&mut self) -> anyhow::Result<Picture> {
        self.check().await?;
        let chain = self.chain();
        let standings = join_all(self.nodes.iter().map(async |node| match &node.process {
            Some(_) => match self.api.standing(node.ports.public, chain).await {
                Some(standing) => Condition::Online(Box::new(standing)),
                None => Condition::Silent,
            },
            None => Condition::Offline {
                reason: node.absence,
                missing: node.missing(chain),
            },
        }))
        .await;
        let now = Instant::now();
        let nodes = self.nodes.iter_mut().zip(standings).map(|(node, condition)| {
            if let Condition::Online(standing) = &condition {
                let here = chain.len().saturating_sub(standing.missing_blocks());
                node.meter.note(now, here);
                node.lacked = Some((standing.missing.clone(), chain.end()));
            }
            NodePicture {
                name: node.name.clone(),
                condition,
                rate: node.meter.per_second(),
            }
        });
        Ok(Picture {
            chain,
            nodes: nodes.collect(),
            has_dgraph: self.dgraph.is_some(),
        })
    }

    /// An error where something ended that should run.
    async fn check(&mut self) -> anyhow::Result<()> {
        self.honeycombs.check().await?;
        for node in &mut self.nodes {
            let ended = match &mut node.process {
                Some(process) => process.ended()?,
                None => None,
            };
            if let Some(status) = ended {
                node.process = None;
                bail!(
                    "{} ended by itself ({status}); the end of its log {}:\n{}",
                    node.name,
                    node.log.display(),
                    last_lines(&node.log, SHOWN_LOG_LINES)
                );
            }
        }
        Ok(())
    }

    /// Ends every node: asks all at once, kills those that do not go.
    pub(crate) async fn stop_all(&mut self) -> anyhow::Result<()> {
        let stopping = self.nodes.iter_mut().map(|node| node.stop("stopped"));
        let stopped: anyhow::Result<()> = join_all(stopping).await.into_iter().collect();
        if let Some(dgraph) = &mut self.dgraph {
            dgraph.stop().await?;
        }
        stopped
    }
}

impl Node {
    /// Asks the node to stop and waits until it has.
    pub(crate) async fn stop(&mut self, reason: &'static str) -> anyhow::Result<()> {
        self.absence = reason;
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// Ends the node at once.
    pub(crate) async fn kill(&mut self, reason: &'static str) -> anyhow::Result<()> {
        self.absence = reason;
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// What it lacks of the chain, by what was seen of it last.
    pub(crate) fn missing(&self, chain: BlockRange) -> IntervalSet {
        let mut missing = IntervalSet::default();
        match &self.lacked {
            Some((lacked, seen)) => {
                lacked.present_in(chain).for_each(|range| missing.insert(range));
                if let Ok(since) = BlockRange::new(seen.next(), chain.end()) {
                    missing.insert(since);
                }
            }
            None => missing.insert(chain),
        }
        missing
    }

    /// It was stopped, and has lost blocks.
    pub(crate) fn lost(&mut self, blocks: &[BlockRange]) {
        if let Some((lacked, _)) = &mut self.lacked {
            for range in blocks {
                lacked.insert(*range);
            }
        }
    }

    /// It was stopped, and has lost everything.
    pub(crate) fn lost_everything(&mut self) {
        self.lacked = None;
    }

    /// Its public address.
    pub(crate) fn url(&self) -> String {
        url(&self.ports)
    }
}

fn common_settings(
    name: &str,
    ports: &NodePorts,
    data: &Path,
    admin_token_file: &Path,
    honeycombs: &Honeycombs,
) -> Vec<OsString> {
    let mut settings = flags([
        ("network", honeycombs::NETWORK.into()),
        ("peer-id", name.into()),
        ("data-dir", data.as_os_str().to_owned()),
        ("public-listen", ports.public.to_string().into()),
        ("ingest-listen", ports.ingest.to_string().into()),
        ("admin-listen", ports.admin.to_string().into()),
        ("metrics-listen", ports.metrics.to_string().into()),
        ("admin-token-file", admin_token_file.as_os_str().to_owned()),
        ("advertise-url", url(ports).into()),
        ("honeycomb-nodes", list(honeycombs.list_urls())),
    ]);
    settings.extend(flags(PACE.map(|(name, value)| (name, value.into()))));
    settings
}

/// Settings as flags.
fn flags<const COUNT: usize>(settings: [(&str, OsString); COUNT]) -> Vec<OsString> {
    let flag = |(name, value): (&str, OsString)| {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        flag
    };
    settings.into_iter().map(flag).collect()
}

fn list(entries: impl IntoIterator<Item = String>) -> OsString {
    entries.into_iter().collect::<Vec<_>>().join(",").into()
}

fn url(ports: &NodePorts) -> String {
    format!("http://{}", ports.public)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    std::fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path.to_owned())
}
