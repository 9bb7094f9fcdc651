//! Removes what a check found damaged, so that the node fetches it again.

use fjall::Keyspace;

use super::{CheckReport, Remedy, Row, Table};
use crate::store::layout::Keyspaces;
use crate::store::{StoreError, Writer};

/// What a repair did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Blocks that were removed.
    pub blocks: u64,
    /// Other rows that were removed or written again.
    pub rows: u64,
    /// Problems that a repair cannot mend.
    pub left: u64,
}

/// Mends what can be mended in one transaction. The report is of this store, unchanged since.
pub fn repair(writer: &mut Writer, report: &CheckReport) -> Result<Repaired, StoreError> {
    let left = report
        .problems
        .iter()
        .filter(|problem| matches!(problem.remedy, Remedy::ComputeAgain | Remedy::StartAgain))
        .count();
    let mut done = Repaired {
        left: left as u64,
        ..Repaired::default()
    };
    if report.bad_blocks.is_empty() && report.rows.is_empty() {
        return Ok(done);
    }
    let keyspaces = std::sync::Arc::clone(&writer.store().keyspaces);
    let mut transaction = writer.begin();
    if report.rows.contains(&Row::Have) {
        transaction.rebuild_intervals()?;
    }
    for range in report.bad_blocks.iter() {
        done.blocks += transaction.remove_blocks_counted(range);
    }
    for row in &report.rows {
        done.rows += 1;
        match row {
            // Written again below: one transaction has each key once.
            Row::Remove(Table::CheckpointIds, key) if is_rewritten(report, key) => done.rows -= 1,
            Row::Remove(table, key) => transaction.remove_row(keyspace(&keyspaces, *table), key),
            Row::Document(id) => transaction.remove_document(*id)?,
            Row::Have => {}
            Row::CheckpointId(id, number) => transaction.index_checkpoint(*id, *number),
        }
    }
    transaction.commit()?;
    Ok(done)
}

fn is_rewritten(report: &CheckReport, key: &[u8]) -> bool {
    report
        .rows
        .iter()
        .any(|row| matches!(row, Row::CheckpointId(id, _) if id.digest() == key))
}

const fn keyspace(keyspaces: &Keyspaces, table: Table) -> &Keyspace {
    match table {
        Table::Blocks => &keyspaces.blocks,
        Table::ForkBlocks => &keyspaces.fork_blocks,
        Table::Undo => &keyspaces.undo,
        Table::CheckpointIds => &keyspaces.checkpoint_ids,
        Table::Documents => &keyspaces.documents,
        Table::Retry => &keyspaces.retry,
        Table::Peers => &keyspaces.peers,
        Table::Sources => &keyspaces.sources,
    }
}
