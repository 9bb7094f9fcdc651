//! What the node says that it is doing (`docs/sync.md`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use honeygraph_chain::BlockNumber;

use super::SyncEngine;
use crate::replica::ReplicaStatus;
use crate::wire::shapes::SyncMode;

/// A honeycomb that claims blocks and sends none for so long (ten blocks) is none that feeds the node.
pub(super) const FEED_PATIENCE: Duration = Duration::from_secs(30);

/// How far the node has come.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reached {
    committed: Option<BlockNumber>,
    applied: Option<BlockNumber>,
    /// The highest block that a honeycomb on the node's chain has sent.
    sent: Option<BlockNumber>,
    /// What honeycombs have sent above a gap: the highest stored block, and the number of those in memory.
    above_gap: (Option<BlockNumber>, usize),
}

/// What moves while a honeycomb feeds the node. An open connection is no sign of that: it says nothing of whether the
/// honeycomb still hears the Hive chain.
#[derive(Debug)]
pub(super) struct Progress {
    reached: Reached,
    /// When that changed last.
    pub(super) since: Instant,
    /// Whether nothing moves because commits are held.
    is_held: bool,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            reached: Reached::default(),
            since: now,
            is_held: false,
        }
    }

    pub(super) fn note(&mut self, status: &ReplicaStatus, now: Instant) {
        let connected = || status.sources.iter().filter(|source| source.connected);
        let followed = connected().filter(|source| source.canonical);
        let reached = Reached {
            committed: status.position.as_ref().map(|position| position.state_height),
            applied: status.applied,
            sent: followed.filter_map(|source| source.tip).max(),
            above_gap: (
                status.newest_ahead,
                connected().map(|source| source.pending).sum(),
            ),
        };
        let was_held = self.is_held;
        self.is_held = status.held_at.is_some() && status.held_at == reached.committed;
        if reached != self.reached || was_held {
            self.reached = reached;
            self.since = now;
        }
    }

    /// Whether something has moved lately, or would have if commits were not held.
    pub(super) fn is_recent(&self) -> bool {
        self.is_held || self.since.elapsed() < FEED_PATIENCE
    }
}

/// What the honeycombs do for the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    /// None is connected whose chain is taken.
    Nobody,
    /// One is connected, and what it has sent does not fit yet, or it sends nothing of what it claims.
    Silent,
    /// One is connected and sends one block after the other.
    Sends,
}

/// Where blocks are missing that are to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// Above the state alone: what a honeycomb sends anyhow.
    AboveState,
    /// Below it: holes, and history.
    BelowState,
}

/// What decides.
#[derive(Debug, Clone, Copy)]
struct Situation {
    missing: Missing,
    /// Whether a peer that answers has some of what is missing.
    can_fill: bool,
    any_peer_answers: bool,
    feed: Feed,
    /// Whether the network is a period or more ahead of the state.
    is_far_behind: bool,
}

impl Situation {
    const fn mode(self) -> SyncMode {
        match (self.missing, self.feed) {
            (Missing::AboveState | Missing::BelowState, _) if self.can_fill => SyncMode::Fill,
            (Missing::BelowState, _) => SyncMode::Starved,
            (_, Feed::Sends) if self.is_far_behind => SyncMode::Fill,
            (_, Feed::Sends) => SyncMode::Follow,
            (Missing::AboveState, _) => SyncMode::Starved,
            (Missing::Nothing, Feed::Nobody) if !self.any_peer_answers => SyncMode::Starved,
            (Missing::Nothing, _) => SyncMode::Follow,
        }
    }
}

impl SyncEngine {
    pub(super) fn mode(&self) -> SyncMode {
        let status = Arc::clone(&self.status.borrow());
        let any_peer_answers = self.registry.iter().any(|(_, peer)| peer.is_alive);
        let feed = self.feed(&status);
        let Some(position) = &status.position else {
            return if any_peer_answers || feed != Feed::Nobody {
                SyncMode::Anchor
            } else {
                SyncMode::Discover
            };
        };
        if position.halted.is_some() {
            return SyncMode::Halted;
        }
        let height = position.state_height;
        let missing = match self.wanted.first() {
            None => Missing::Nothing,
            Some(first) if first > height => Missing::AboveState,
            Some(_) => Missing::BelowState,
        };
        let period = position.schedule.delta_interval;
        let situation = Situation {
            missing,
            can_fill: missing != Missing::Nothing && self.can_fill(),
            any_peer_answers,
            feed,
            is_far_behind: self.network_head() >= Some(height.saturating_add(period)),
        };
        situation.mode()
    }

    fn feed(&self, status: &ReplicaStatus) -> Feed {
        let taken = |aside: &Option<String>| aside.is_none();
        let mut live = status
            .sources
            .iter()
            .filter(|source| source.connected && taken(&source.set_aside))
            .peekable();
        if live.peek().is_none() {
            return Feed::Nobody;
        }
        let is_news = self.wanted.is_empty() || self.progress.is_recent();
        if is_news && live.any(|source| source.pending == 0) {
            Feed::Sends
        } else {
            Feed::Silent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that has everything and knows nobody.
    const ALONE: Situation = Situation {
        missing: Missing::Nothing,
        can_fill: false,
        any_peer_answers: false,
        feed: Feed::Nobody,
        is_far_behind: false,
    };

    #[test]
    fn a_node_that_a_honeycomb_feeds_is_not_starved() {
        let fed = Situation {
            feed: Feed::Sends,
            ..ALONE
        };
        assert_eq!(fed.mode(), SyncMode::Follow);
        // The next block is announced and under way.
        let missing = Missing::AboveState;
        assert_eq!(Situation { missing, ..fed }.mode(), SyncMode::Follow);
        let is_far_behind = true;
        assert_eq!(
            Situation {
                missing,
                is_far_behind,
                ..fed
            }
            .mode(),
            SyncMode::Fill
        );
    }

    #[test]
    fn a_node_is_starved_where_nobody_has_what_is_missing_or_nobody_is_there() {
        assert_eq!(ALONE.mode(), SyncMode::Starved);
        for feed in [Feed::Nobody, Feed::Silent, Feed::Sends] {
            let torn = Situation {
                missing: Missing::BelowState,
                any_peer_answers: true,
                feed,
                ..ALONE
            };
            assert_eq!(torn.mode(), SyncMode::Starved, "{feed:?}");
            let can_fill = true;
            assert_eq!(Situation { can_fill, ..torn }.mode(), SyncMode::Fill, "{feed:?}");
        }
        for feed in [Feed::Nobody, Feed::Silent] {
            let behind = Situation {
                missing: Missing::AboveState,
                any_peer_answers: true,
                feed,
                ..ALONE
            };
            assert_eq!(behind.mode(), SyncMode::Starved, "{feed:?}");
        }
    }

    #[test]
    fn a_node_that_has_everything_follows_whoever_is_there() {
        let peers = Situation {
            any_peer_answers: true,
            ..ALONE
        };
        let silent = Situation {
            feed: Feed::Silent,
            ..ALONE
        };
        assert_eq!(
            (peers.mode(), silent.mode()),
            (SyncMode::Follow, SyncMode::Follow)
        );
    }
}
