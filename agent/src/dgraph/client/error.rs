//! What went wrong, by what a caller can do about it.

use std::time::Duration;

use super::settings::EndpointUrl;
use super::version::MINIMUM_VERSION;

/// A call to Dgraph that failed. No variant carries a password or token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DgraphError {
    /// Another transaction changed what this one read or wrote. Nothing was written: do the step again.
    #[error("dgraph aborted the transaction: another one wrote the same")]
    Aborted,
    /// The alpha cannot be reached, or takes no requests now.
    #[error("dgraph at {endpoint} is not available: {reason}")]
    Unavailable {
        /// The alpha.
        endpoint: EndpointUrl,
        /// What it or the connection to it said.
        reason: String,
    },
    /// No answer in time.
    #[error("dgraph at {endpoint} did not answer within {} s", .after.as_secs_f32())]
    TimedOut {
        /// The alpha.
        endpoint: EndpointUrl,
        /// How long was waited.
        after: Duration,
    },
    /// A Dgraph with known holes, or one that lacks what is used here.
    #[error("dgraph at {endpoint} is version {found}: {MINIMUM_VERSION} or newer is needed")]
    TooOld {
        /// The alpha.
        endpoint: EndpointUrl,
        /// What it calls itself.
        found: String,
    },
    /// User, password or token are not taken.
    #[error("dgraph at {endpoint} does not take the login: {reason}")]
    Unauthenticated {
        /// The alpha.
        endpoint: EndpointUrl,
        /// What it said.
        reason: String,
    },
    /// Dgraph says no, and will say no again.
    #[error("dgraph at {endpoint} refused: {message}")]
    Refused {
        /// The alpha.
        endpoint: EndpointUrl,
        /// What it said.
        message: String,
    },
    /// An answer that is larger than is read here.
    #[error("dgraph at {endpoint} answered with more than {limit} bytes")]
    AnswerTooLarge {
        /// The alpha.
        endpoint: EndpointUrl,
        /// How much is read.
        limit: usize,
    },
    /// An answer that is not what it should be.
    #[error("dgraph's answer cannot be read: {0}")]
    Answer(String),
}

impl DgraphError {
    /// Whether the step met another writer: worth doing again at once.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Aborted)
    }

    /// Whether another alpha, or the same one later, may answer.
    pub const fn is_of_endpoint(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::TimedOut { .. })
    }

    /// What went wrong, for people who need not know where the alphas are.
    pub fn without_endpoint(&self) -> String {
        match self {
            Self::Unavailable { reason, .. } => format!("dgraph is not available: {reason}"),
            Self::TimedOut { after, .. } => {
                format!("dgraph did not answer within {} s", after.as_secs_f32())
            }
            Self::TooOld { found, .. } => {
                format!("dgraph is version {found}: {MINIMUM_VERSION} or newer is needed")
            }
            Self::Unauthenticated { reason, .. } => format!("dgraph does not take the login: {reason}"),
            Self::Refused { message, .. } => format!("dgraph refused: {message}"),
            Self::AnswerTooLarge { limit, .. } => {
                format!("dgraph answered with more than {limit} bytes")
            }
            Self::Aborted | Self::Answer(_) => self.to_string(),
        }
    }

    /// Whether a write that ended so may have been committed all the same.
    pub const fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::TimedOut { .. } | Self::AnswerTooLarge { .. } | Self::Answer(_)
        )
    }
}

/// Settings that no client can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No alpha is named.
    #[error("no dgraph alpha is named: name at least one, as http://host:9080")]
    NoEndpoint,
    /// Text that is not the address of an alpha. Does not repeat what stands before an `@`.
    #[error("`{text}` is not the address of a dgraph alpha: {problem}")]
    Endpoint {
        /// The text.
        text: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Certificates that cannot be used.
    #[error("tls settings for dgraph: {0}")]
    Tls(String),
    /// A token that cannot stand in a header. Does not carry the token.
    #[error("dgraph's auth token holds characters that cannot be sent: use visible ASCII")]
    AuthToken,
}
