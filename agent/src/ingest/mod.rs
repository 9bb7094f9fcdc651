//! Ingest.
pub mod message;
pub mod source;
pub use message::{LastIndex, OperationIndex};
pub use source::{
    SessionId, SourceCommand, SourceCursor, SourceEvent, SourceEventKind, SourceId, SourceIdError,
};
