//! What went wrong with what stands in Dgraph, and what it means for the writer.

use crate::dgraph::client::DgraphError;

/// What a writer does about a [`ProjectionError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorPolicy {
    /// Ask again later, with growing waits: nothing is wrong with what stands there.
    RetryLater,
    /// Open the store again: what stands there is no longer what was opened.
    Reopen,
    /// Say so, and wait until a person has changed something.
    Refuse,
    /// What stands there cannot be right: it has to be looked at, or written anew.
    Mismatch,
}

/// A projection that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectionError {
    /// Dgraph failed.
    #[error(transparent)]
    Dgraph(#[from] DgraphError),
    /// Another writer changes the schema, or Dgraph builds an index.
    #[error("dgraph changes its schema now: {0}")]
    SchemaBusy(String),
    /// The schema was written by a newer honeygraph.
    #[error(
        "dgraph holds schema version {found}, this honeygraph knows up to {known}: \
         update this node, or give it a dgraph namespace of its own"
    )]
    NewerSchema {
        /// What stands there.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// The schema was written by an older honeygraph, and nothing is to be written now.
    #[error(
        "dgraph holds schema version {found}, this honeygraph writes {known}: a node, or `dgraph verify --repair`, \
         brings it there"
    )]
    OlderSchema {
        /// What stands there.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// Nothing stands there, and nothing is to be written now.
    #[error("Dgraph holds nothing of this network; `dgraph rebuild` fills it")]
    Nothing,
    /// The namespace belongs to another network.
    #[error(
        "this dgraph namespace holds network `{found}`, not `{ours}`: \
         give each network a namespace or a cluster of its own"
    )]
    OtherNetwork {
        /// Whose it is.
        found: String,
        /// Ours.
        ours: String,
    },
    /// Dgraph does not lease the uids that nodes are named by.
    #[error(
        "dgraph does not lease the uids up to {up_to}, which is needed once in the life of a cluster: \
         {reason}; where access control is on, let a guardian of the root namespace do it (docs/dgraph.md)"
    )]
    LeaseRefused {
        /// The last of them, as Dgraph writes it.
        up_to: String,
        /// What Dgraph said.
        reason: String,
    },
    /// Everything is being taken away.
    #[error(
        "`{by}` is taking everything away that stands in this dgraph namespace (`dgraph rebuild --drop`); \
         if it will not come back to end that, run the same here"
    )]
    Clearing {
        /// The writer that does it.
        by: String,
    },
    /// What was opened is gone: Dgraph was wiped, replaced, or migrated.
    #[error("dgraph no longer holds what was opened: {0}")]
    Gone(String),
    /// The network node says what no writer writes.
    #[error(
        "the network node in dgraph cannot be right: {0}; clear the namespace, it is filled again from the log"
    )]
    Damaged(String),
}

impl ProjectionError {
    /// What to do about it.
    pub const fn policy(&self) -> ErrorPolicy {
        match self {
            Self::Dgraph(error) => match error {
                DgraphError::Aborted
                | DgraphError::Unavailable { .. }
                | DgraphError::TimedOut { .. }
                | DgraphError::AnswerTooLarge { .. }
                | DgraphError::Answer(_) => ErrorPolicy::RetryLater,
                DgraphError::TooOld { .. }
                | DgraphError::Unauthenticated { .. }
                | DgraphError::Refused { .. } => ErrorPolicy::Refuse,
            },
            Self::SchemaBusy(_) | Self::Clearing { .. } => ErrorPolicy::RetryLater,
            Self::NewerSchema { .. }
            | Self::OlderSchema { .. }
            | Self::Nothing
            | Self::OtherNetwork { .. }
            | Self::LeaseRefused { .. } => ErrorPolicy::Refuse,
            Self::Gone(_) => ErrorPolicy::Reopen,
            Self::Damaged(_) => ErrorPolicy::Mismatch,
        }
    }
}
