//! The types of conditions.

use std::fmt;

/// Conditions of a [`HoneygraphNode`](crate::HoneygraphNode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeCondition {
    /// Every agent serves proven data and everything that the node is made of is in place.
    Ready,
    /// The operator is changing something that it has not yet seen done.
    Reconciling,
    /// The operator cannot go on until a person changes something; the message says what.
    Stalled,
    /// The node follows the head of its network without a gap.
    Synced,
    /// The state equals what voters agreed on at the newest anchor.
    StateVerified,
    /// The newest checkpoint is as young as the schedule wants it.
    CheckpointFresh,
    /// The node does not stand on a fork that its network left.
    ForkSafe,
}

impl NodeCondition {
    /// All of them, in the order in which a node's status lists them.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::Synced,
        Self::StateVerified,
        Self::CheckpointFresh,
        Self::ForkSafe,
    ];

    /// As it stands in a status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Synced => "Synced",
            Self::StateVerified => "StateVerified",
            Self::CheckpointFresh => "CheckpointFresh",
            Self::ForkSafe => "ForkSafe",
        }
    }
}

impl fmt::Display for NodeCondition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Conditions of a [`Checkpoint`](crate::Checkpoint).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CheckpointCondition {
    /// The snapshots are there, proven, and irreversible: a node can be restored from them.
    Ready,
    /// The operator is taking or proving the snapshots.
    Reconciling,
    /// It failed for good; the message says why.
    Stalled,
}

impl CheckpointCondition {
    /// All of them, in the order in which a checkpoint's status lists them.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Reconciling, Self::Stalled];

    /// As it stands in a status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

impl fmt::Display for CheckpointCondition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
