//! Formats of the store. A newer one is refused, an older one is migrated step by step.

use fjall::{Database, PersistMode};

use super::StoreError;
use super::layout::{FORMAT_KEY, Keyspaces, number_key};
use super::record::{CheckpointRecord, json_from_bytes};

/// The format this program writes.
pub(super) const FORMAT: u32 = 2;

/// Brings the store to [`FORMAT`]; a new store starts there.
pub(super) fn migrate(database: &Database, keyspaces: &Keyspaces) -> Result<(), StoreError> {
    let found = match keyspaces.meta.get(FORMAT_KEY)? {
        None => FORMAT,
        Some(bytes) => json_from_bytes("format of the store", &bytes)?,
    };
    if found > FORMAT {
        return Err(StoreError::FormatTooNew {
            found,
            supported: FORMAT,
        });
    }
    for format in found..FORMAT {
        match format {
            1 => index_checkpoints(database, keyspaces)?,
            other => return Err(StoreError::damaged("format of the store", other)),
        }
        tracing::info!(from = format, to = format + 1, "store migrated");
    }
    let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(&keyspaces.meta, FORMAT_KEY, FORMAT.to_string().into_bytes());
    batch.commit()?;
    Ok(())
}

/// Format 1 had no index of checkpoints by content id.
fn index_checkpoints(database: &Database, keyspaces: &Keyspaces) -> Result<(), StoreError> {
    let mut batch = database.batch();
    for row in keyspaces.checkpoints.iter() {
        let record: CheckpointRecord = json_from_bytes("checkpoint", &row.value()?)?;
        batch.insert(
            &keyspaces.checkpoint_ids,
            record.state_hash.digest().to_vec(),
            number_key(record.block_num).to_vec(),
        );
    }
    batch.commit()?;
    Ok(())
}
