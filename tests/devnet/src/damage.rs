//! Damage to the store of a node that is stopped.

use std::path::Path;

use anyhow::Context;
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::BlockRange;

use crate::plan;

/// Removes ranges of blocks from a store, and gives them.
pub(crate) fn punch_holes(directory: &Path, seed: u64) -> anyhow::Result<Vec<BlockRange>> {
    let (_store, mut writer, _recovery) = Store::open(directory, &StoreSettings::default())
        .with_context(|| format!("{} cannot be damaged", directory.display()))?;
    let have = writer.have();
    let held = have
        .first()
        .zip(have.last())
        .and_then(|(first, last)| BlockRange::new(first, last).ok())
        .context("there are no blocks to remove")?;
    let holes = plan::holes(held, seed);
    let mut transaction = writer.begin();
    for hole in &holes {
        transaction.remove_blocks(*hole);
    }
    transaction.commit()?;
    Ok(holes)
}

/// Removes everything.
pub(crate) fn wipe(directory: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(directory).with_context(|| format!("{} cannot be removed", directory.display()))
}
