//! The story: a network starts, is broken, and heals.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::future::join_all;
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::{BlockNumber, BlockRange};
use indicatif::HumanCount;

use crate::arguments::Arguments;
use crate::convergence::{Shortcoming, Testimony, shortcomings};
use crate::damage;
use crate::display::Display;
use crate::equality::compare;
use crate::fetched::Fetched;
use crate::network::{Beginning, Network};
use crate::observation::{Condition, Picture};
use crate::plan::{Fate, Feed, Growth};
use crate::recorded;
use crate::summary::{self, Healing, Journey};

/// Time between two looks at the nodes.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Time between two blocks of a network that is kept running: Hive's.
const KEPT_INTERVAL: Duration = Duration::from_secs(3);

/// A node that was brought back.
#[derive(Debug, Clone, Copy)]
struct Return {
    at: Instant,
    chain: BlockRange,
    missing: u64,
    healed: Option<Duration>,
}

/// The story of one network.
pub(crate) struct Story {
    arguments: Arguments,
    recorded: Anchor,
    growth: Growth,
    network: Network,
    display: Display,
    /// What happened to nodes, by their place.
    events: BTreeMap<usize, String>,
    returns: BTreeMap<usize, Return>,
}

impl Story {
    /// The story of a network that was prepared.
    pub(crate) fn new(arguments: Arguments, network: Network) -> anyhow::Result<Self> {
        let recorded = recorded::last_anchor()?;
        let growth = Growth::after(recorded.block_num, arguments.blocks);
        let display = Display::new(arguments.quiet, network.nodes.len());
        Ok(Self {
            arguments,
            recorded,
            growth,
            network,
            display,
            events: BTreeMap::new(),
            returns: BTreeMap::new(),
        })
    }

    /// Plays it to its good end, or says what went wrong.
    pub(crate) async fn play(&mut self) -> anyhow::Result<()> {
        self.start().await?;
        self.replay().await?;
        self.go_offline().await?;
        self.damage().await?;
        self.bring_back().await?;
        let target = self.heal().await?;
        self.conclude(&target).await
    }

    /// Goes on with one block every 3 s, until an error.
    pub(crate) async fn keep(&mut self) -> anyhow::Result<()> {
        self.network
            .honeycombs
            .grow_until(BlockNumber::MAX, KEPT_INTERVAL);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            self.network.look().await?;
        }
    }

    /// Ends every node.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.display.close();
        self.network.stop_all().await
    }

    /// The network, to be described.
    pub(crate) const fn network(&self) -> &Network {
        &self.network
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let count = self.network.nodes.len();
        let fed = self.names(|feed| feed == Feed::Honeycombs);
        self.display
            .phase(&format!("1/6 Start {count} nodes and two honeycombs"));
        if let Some(dgraph) = &self.network.dgraph {
            self.display.note(dgraph.mode().description());
        }
        self.display.note(&format!(
            "all start from a real network's published state; honeycombs push to {fed}, the others have peers only"
        ));
        for place in 0..count {
            self.network.start(place, Beginning::Genesis)?;
        }
        self.wait("all nodes to answer", |picture| {
            picture.nodes.iter().all(|node| node.standing().is_some())
        })
        .await?;
        self.network.feed();
        Ok(())
    }

    async fn replay(&mut self) -> anyhow::Result<()> {
        let target = self.recorded;
        let blocks = target
            .block_num
            .next()
            .distance_from(self.network.honeycombs.first_block());
        self.display
            .phase(&format!("2/6 Replay {blocks} recorded blocks"));
        self.grow(target.block_num).await?;
        self.agree(target).await?;
        self.display.note(&format!(
            "all have the recorded head {} and its state {}",
            HumanCount(target.block_num.get()),
            target.state_hash
        ));
        Ok(())
    }

    async fn go_offline(&mut self) -> anyhow::Result<()> {
        let fates = [Fate::Offline, Fate::Holes];
        let place = fates.into_iter().find_map(|fate| self.network.with(fate));
        let place = place.context("no node is planned to go offline")?;
        let name = self.name(place);
        self.display.phase(&format!("3/6 Take {name} offline"));
        self.look().await?;
        self.break_dgraph().await?;
        self.node(place)?.kill("killed").await?;
        self.events.insert(place, "killed".to_owned());
        let missed = self
            .growth
            .offline_until
            .distance_from(self.network.honeycombs.head());
        self.display.note(&format!(
            "{name} is killed; the chain grows by {} blocks",
            HumanCount(missed)
        ));
        self.grow(self.growth.offline_until).await
    }

    async fn damage(&mut self) -> anyhow::Result<()> {
        let damaged = self
            .network
            .with(Fate::Holes)
            .context("no node is planned to be damaged")?;
        let wiped = self
            .network
            .with(Fate::Wiped)
            .context("no node is planned to be wiped")?;
        let (damaged_name, wiped_name) = (self.name(damaged), self.name(wiped));
        self.display
            .phase(&format!("4/6 Damage {damaged_name}, wipe {wiped_name}"));
        let seed = self.arguments.seed;
        self.look().await?;
        let node = self.node(damaged)?;
        node.stop("damaged").await?;
        let directory = node.data.clone();
        let holes = tokio::task::spawn_blocking(move || damage::punch_holes(&directory, seed)).await??;
        self.node(damaged)?.lost(&holes);
        let blocks: u64 = holes.iter().copied().map(BlockRange::len).sum();
        let event = format!("lost {} ranges, {} blocks", holes.len(), HumanCount(blocks));
        self.display
            .note(&format!("{damaged_name} is stopped and {event}"));
        let before = self
            .events
            .remove(&damaged)
            .map(|event| event + "; ")
            .unwrap_or_default();
        self.events.insert(damaged, before + &event);

        let node = self.node(wiped)?;
        node.kill("wiped").await?;
        damage::wipe(&node.data)?;
        node.lost_everything();
        self.events.insert(wiped, "lost everything".to_owned());
        let missed = self
            .growth
            .damaged_until
            .distance_from(self.network.honeycombs.head());
        self.display.note(&format!(
            "{wiped_name} is killed and loses everything; the chain grows by {} blocks",
            HumanCount(missed)
        ));
        self.grow(self.growth.damaged_until).await
    }

    async fn bring_back(&mut self) -> anyhow::Result<()> {
        self.display.phase("5/6 Bring all back while the chain grows");
        let chain = self.network.chain();
        for place in self.events.keys().copied().collect::<Vec<_>>() {
            let missing = self.node(place)?.missing(chain).block_count();
            self.display.note(&format!(
                "{} comes back and is missing {} blocks",
                self.name(place),
                HumanCount(missing)
            ));
            self.returns.insert(
                place,
                Return {
                    at: Instant::now(),
                    chain,
                    missing,
                    healed: None,
                },
            );
            self.network.start(place, Beginning::Store)?;
        }
        if let (Some(fault), Some(dgraph)) = (self.arguments.dgraph_fault, &mut self.network.dgraph) {
            dgraph.bring_back(fault)?;
        }
        self.grow(self.growth.end).await
    }

    async fn heal(&mut self) -> anyhow::Result<Anchor> {
        let end = self.growth.end;
        self.display.phase(&format!(
            "6/6 Prove the same head, state and history to {}",
            HumanCount(end.get())
        ));
        let anchor = self.network.honeycombs.anchor(end);
        let anchor = anchor.with_context(|| format!("the chain has no checkpoint at its end {end}"))?;
        self.agree(anchor).await?;
        Ok(anchor)
    }

    /// The fault of Dgraph that was asked for begins.
    async fn break_dgraph(&mut self) -> anyhow::Result<()> {
        let (Some(fault), Some(dgraph)) = (self.arguments.dgraph_fault, &mut self.network.dgraph) else {
            return Ok(());
        };
        self.display.note(&format!("every Dgraph: {fault}"));
        dgraph.break_by(fault).await
    }

    /// Stops the nodes, and compares all that Dgraph holds with all that each log holds.
    async fn compare_dgraph(&mut self) -> anyhow::Result<()> {
        if self.network.dgraph.is_none() {
            return Ok(());
        }
        let began = Instant::now();
        while let Some(dgraph) = &self.network.dgraph
            && !dgraph.is_mended().await?
        {
            if began.elapsed() >= self.arguments.timeout() {
                bail!(
                    "after {} s Dgraph still has what somebody edited",
                    self.arguments.timeout
                );
            }
            self.look().await?;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let places = 0..self.network.nodes.len();
        for place in places.clone() {
            self.node(place)?.stop("compared").await?;
        }
        for place in places.clone() {
            let name = self.name(place);
            let data = self.node(place)?.data.clone();
            let dgraph = self.network.dgraph.as_ref().context("no Dgraph")?;
            let reader = dgraph.reader(place)?;
            let opened =
                tokio::task::spawn_blocking(move || Store::open(&data, &StoreSettings::default())).await?;
            let (store, _writer, _) = opened.with_context(|| format!("the store of {name}"))?;
            let compared = compare(&reader, &store.view())
                .await
                .with_context(|| format!("Dgraph differs from the log of {name}"))?;
            self.display.note(&format!(
                "Dgraph equals the log of {name}: {} blocks, {} leaves of the state",
                HumanCount(u64::try_from(compared.blocks)?),
                HumanCount(u64::try_from(compared.leaves)?)
            ));
        }
        if !self.arguments.keep {
            return Ok(());
        }
        for place in places {
            self.network.start(place, Beginning::Store)?;
        }
        self.wait("all nodes to answer again", |picture| {
            picture.nodes.iter().all(|node| node.standing().is_some())
        })
        .await?;
        Ok(())
    }

    async fn conclude(&mut self, target: &Anchor) -> anyhow::Result<()> {
        let mut journeys = Vec::new();
        for (place, node) in self.network.nodes.iter().enumerate() {
            let usual = match node.plan.feed {
                Feed::Honeycombs => "fed by both honeycombs",
                Feed::Peers => "followed its peers",
            };
            let healing = match self.returns.get(&place) {
                Some(returned) => {
                    let metrics = self
                        .network
                        .api
                        .metrics(node.ports.metrics)
                        .await
                        .unwrap_or_default();
                    Some(Healing {
                        missing: returned.missing,
                        time: returned.healed.unwrap_or_else(|| returned.at.elapsed()),
                        fetched: Fetched::from_metrics(&metrics),
                    })
                }
                None => None,
            };
            journeys.push(Journey {
                name: node.name.clone(),
                story: self
                    .events
                    .get(&place)
                    .cloned()
                    .unwrap_or_else(|| usual.to_owned()),
                healing,
            });
        }
        // It stops the nodes, and with them ends what their metrics say.
        self.compare_dgraph().await?;
        let time = self.display.elapsed();
        self.display.result(&summary::table(&journeys));
        self.display
            .result(&summary::agreement(journeys.len(), target, time));
        Ok(())
    }

    /// Lets the chain grow to a block, and waits until it has.
    async fn grow(&mut self, until: BlockNumber) -> anyhow::Result<()> {
        self.network
            .honeycombs
            .grow_until(until, self.arguments.block_interval());
        self.wait("the chain to grow", |picture| picture.chain.end() >= until)
            .await?;
        Ok(())
    }

    /// Looks at the nodes again and again until it is as it should be.
    async fn wait(&mut self, what: &str, is_done: impl Fn(&Picture) -> bool) -> anyhow::Result<Picture> {
        let mut patience = Patience::new(self.arguments.timeout());
        loop {
            let picture = self.look().await?;
            if is_done(&picture) {
                return Ok(picture);
            }
            if patience.is_over(&picture) {
                bail!(
                    "waited {} s for {what}{}",
                    patience.time.as_secs(),
                    self.complaints(&picture)
                );
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until every running node has all of the chain and the anchor's hashes.
    async fn agree(&mut self, target: Anchor) -> anyhow::Result<()> {
        let mut patience = Patience::new(self.arguments.timeout());
        loop {
            let picture = self.look().await?;
            let lacking = self.lacking(&picture, &target).await;
            if lacking.is_empty() {
                return Ok(());
            }
            if patience.is_over(&picture) {
                let mut text = format!(
                    "after {} s not all nodes have the chain to {}:",
                    patience.time.as_secs(),
                    HumanCount(target.block_num.get())
                );
                for (name, shortcomings) in lacking {
                    let all: Vec<_> = shortcomings.iter().map(ToString::to_string).collect();
                    let _ = write!(text, "\n  {name} {}", all.join("; "));
                }
                bail!(text + &self.complaints(&picture));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// What nodes lack, of those that lack something.
    async fn lacking(&self, picture: &Picture, target: &Anchor) -> Vec<(String, Vec<Shortcoming>)> {
        let first = picture.chain.start();
        let judged = picture
            .nodes
            .iter()
            .zip(&self.network.nodes)
            .map(async |(seen, node)| {
                let unheard = shortcomings(seen, &Testimony::default(), first, target);
                if unheard != [Shortcoming::NoAnchor] {
                    return (node.name.clone(), unheard);
                }
                let testimony = self
                    .network
                    .api
                    .testimony(node.ports.public, target.block_num)
                    .await;
                (node.name.clone(), shortcomings(seen, &testimony, first, target))
            });
        let judged = join_all(judged).await;
        judged
            .into_iter()
            .filter(|(_, shortcomings)| !shortcomings.is_empty())
            .collect()
    }

    /// Looks at the nodes, shows them, and notes which have healed.
    async fn look(&mut self) -> anyhow::Result<Picture> {
        let picture = self.network.look().await?;
        let mut healed = Vec::new();
        for (place, returned) in &mut self.returns {
            let Some(node) = picture.nodes.get(*place) else {
                continue;
            };
            let is_whole = node
                .standing()
                .is_some_and(|standing| standing.covers(returned.chain));
            if returned.healed.is_none() && is_whole {
                let time = returned.at.elapsed();
                returned.healed = Some(time);
                healed.push(format!(
                    "{} is whole again after {:.1} s",
                    node.name,
                    time.as_secs_f64()
                ));
            }
        }
        for text in healed {
            self.display.note(&text);
        }
        self.display.show(&picture);
        Ok(picture)
    }

    /// Why nodes may be behind, as further lines of an error.
    fn complaints(&self, picture: &Picture) -> String {
        let mut text = String::new();
        for node in &picture.nodes {
            if let Condition::Silent = node.condition {
                let _ = write!(text, "\n  {} runs but does not answer", node.name);
            }
            if let Some(trouble) = self.network.honeycombs.trouble(&node.name) {
                let _ = write!(text, "\n  {}: {trouble}", node.name);
            }
        }
        text
    }

    fn node(&mut self, place: usize) -> anyhow::Result<&mut crate::network::Node> {
        self.network.nodes.get_mut(place).context("no such node")
    }

    fn name(&self, place: usize) -> String {
        self.network
            .nodes
            .get(place)
            .map(|node| node.name.clone())
            .unwrap_or_default()
    }

    fn names(&self, of: impl Fn(Feed) -> bool) -> String {
        let nodes = self.network.nodes.iter().filter(|node| of(node.plan.feed));
        nodes
            .map(|node| node.name.as_str())
            .collect::<Vec<_>>()
            .join(" and ")
    }
}

/// How long to wait: it starts again whenever the chain grows.
#[derive(Debug)]
struct Patience {
    time: Duration,
    since: Instant,
    head: Option<BlockNumber>,
}

impl Patience {
    fn new(time: Duration) -> Self {
        Self {
            time,
            since: Instant::now(),
            head: None,
        }
    }

    fn is_over(&mut self, picture: &Picture) -> bool {
        let head = Some(picture.chain.end());
        if self.head != head {
            self.head = head;
            self.since = Instant::now();
        }
        self.since.elapsed() >= self.time
    }
}
