//! The running node.

use crate::config::Config;

/// Runs the node until it is told to stop.
#[allow(clippy::unused_async, reason = "the node is asynchronous")]
pub async fn run(config: Config) -> anyhow::Result<()> {
    anyhow::bail!("cannot run in {} yet", config.node.data_dir.display())
}
