//! Configuration: flags and environment variables, checked into strict types before anything is opened.
//!
//! `arguments` names every setting, `values` says what each may be, `validate` checks them against each other,
//! `settings` is what the rest of the agent sees. A wrong setting is one line on standard error and exit code
//! [`EXIT_USAGE`]. The settings are listed in `docs/configuration.md`.

mod arguments;
mod dgraph;
mod reference;
mod secret;
mod settings;
#[cfg(test)]
mod tests;
mod usage;
mod validate;
mod values;

pub use arguments::{
    AccessArguments, DgraphArguments, LimitArguments, NetworkArguments, NodeArguments, ProcessArguments,
    RawConfig, SourceArguments, StoreArguments, SyncArguments,
};
pub use reference::{command, markdown};
pub use secret::{Secret, SecretError};
pub use settings::{
    AccessConfig, Config, DgraphConfig, History, LimitConfig, ListenerConfig, LoggingConfig, NetworkConfig,
    NodeConfig, SourceConfig, Start, StoreConfig, SyncConfig,
};
pub use usage::{ConfigError, EXIT_USAGE, ShownValue, usage_line};
pub use validate::{read_small_file, validate};
pub use values::{
    DgraphMode, DqlAccess, List, LogFilter, LogFormat, Maybe, Refused, Source, TrustedCheckpoint,
    Verification, Voter, VoterName,
};
pub(crate) use values::{document_bytes_max, listener, network_name, trusted_checkpoint};
