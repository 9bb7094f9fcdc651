//! A portable file of blocks and of what a node starts from: `export` and `import`.
//!
//! The file is described in `docs/store.md`. It is read twice: first whole, without touching the store, so
//! that a damaged file changes nothing; then block by block through the same checks as blocks of a peer.

mod error;
mod export;
mod format;
mod hanging;
mod import;
mod inspect;
#[cfg(test)]
mod tests;

pub use error::TransferError;
pub use export::{ExportOptions, Exported, Overwrite, export};
pub use format::{FILE_VERSION, Header, StartHeader, read_header};
pub use import::{ImportOptions, Imported, import};

/// How far an export or import has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferProgress {
    /// What is being done.
    pub part: TransferPart,
    /// Blocks that are done, or bytes of documents.
    pub done: u64,
    /// All of them, as far as is known.
    pub total: u64,
}

/// The parts of an export or import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferPart {
    /// Documents are written or read; counted in bytes.
    Documents,
    /// Blocks are written.
    Write,
    /// The file is checked.
    Verify,
    /// Blocks are checked and committed.
    Apply,
}

/// Called now and then with how far it is.
pub type ProgressFn<'caller> = &'caller mut dyn FnMut(TransferProgress);
