//! Ingest: honeycomb sources push their log over WebSocket (`docs/protocol.md`, section 5).
//!
//! [`message`] is the wire, [`assembler`] makes complete blocks of it and is pure, [`server`] and its
//! sessions are the sockets around it. Blocks leave as [`SourceEvent`]s through a bounded [`queue`];
//! [`SourceCommand`]s go back by [`Ingest::send`].

pub mod assembler;
pub mod authenticator;
pub mod message;
pub mod queue;
pub mod server;
mod session;
mod sessions;
pub mod settings;
pub mod source;
#[cfg(test)]
mod tests;
mod tls;
mod weight;

pub(crate) use authenticator::is_direct_loopback;
pub use authenticator::{
    AuthenticationError, ClientCertificate, SourceAuthenticator, SourceAuthenticatorError,
};
pub use message::{LastIndex, OperationIndex};
pub use queue::{EventReceiver, EventSender, QueueClosed, event_queue};
pub use server::Ingest;
pub use sessions::CommandError;
pub use settings::IngestSettings;
pub use source::{
    SessionId, SourceCommand, SourceCursor, SourceEvent, SourceEventKind, SourceId, SourceIdError,
};
pub use tls::{IngestTls, TlsError, TlsFile, TlsFiles};
pub(crate) use weight::weight_of;
