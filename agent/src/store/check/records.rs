//! Blocks off the canonical chain, documents, and what is kept of peers and sources.

use fjall::{Keyspace, Readable as _};
use honeygraph_chain::ContentId;
use honeygraph_chain::content_id::ContentHasher;

use super::{Check, CheckPart, Remedy, Row, Table, reason_of};
use crate::store::layout::{chunk_key, fork_key, key_number};
use crate::store::record::json_from_bytes;
use crate::store::{PeerRecord, StoreError, StoredBlock};

/// A document of which pieces were read.
struct OpenDocument {
    id: ContentId,
    next: u32,
    hasher: ContentHasher,
    /// What is wrong with it already.
    reason: Option<String>,
}

impl Check<'_> {
    pub(super) fn fork_blocks(&mut self) {
        for row in self.snapshot.iter(&self.keyspaces.fork_blocks) {
            let (key, value) = match row.into_inner() {
                Ok(row) => row,
                Err(error) => return self.report.unreadable("blocks off the canonical chain", error),
            };
            self.report.counts.fork_blocks += 1;
            let block = key_number(&key).and_then(|number| {
                let stored = StoredBlock::from_bytes(number, &value)?;
                stored.decode(number)?;
                if fork_key(number, stored.hash) == *key {
                    Ok(())
                } else {
                    Err(StoreError::damaged_block(number, "its key has another hash"))
                }
            });
            if let Err(error) = block {
                let place = format!("block off the canonical chain {}", hex::encode(&key));
                self.report.problem(place, reason_of(&error), Remedy::Forget);
                self.report
                    .repairable(Row::Remove(Table::ForkBlocks, key.to_vec()));
            }
        }
    }

    pub(super) fn documents(&mut self) {
        let mut open: Option<OpenDocument> = None;
        let mut done = 0;
        for row in self.snapshot.iter(&self.keyspaces.documents) {
            let (key, value) = match row.into_inner() {
                Ok(row) => row,
                Err(error) => return self.report.unreadable("documents", error),
            };
            done += 1;
            self.advance(CheckPart::Records, done, 0);
            let Some(id) = key.first_chunk::<32>().map(|id| ContentId::from_digest(*id)) else {
                let place = format!("document with key {}", hex::encode(&key));
                self.report.problem(place, "no content id", Remedy::Forget);
                self.report
                    .repairable(Row::Remove(Table::Documents, key.to_vec()));
                continue;
            };
            if let Some(before) = open.take_if(|open| open.id != id) {
                self.close(before);
            }
            let document = open.get_or_insert_with(|| OpenDocument {
                id,
                next: 0,
                hasher: ContentHasher::new(),
                reason: None,
            });
            if chunk_key(id, document.next) != *key {
                document.reason = Some(format!("piece {} is missing", document.next));
            }
            document.next = document.next.saturating_add(1);
            document.hasher.update(&value);
        }
        if let Some(last) = open {
            self.close(last);
        }
    }

    fn close(&mut self, document: OpenDocument) {
        self.report.counts.documents += 1;
        let found = document.hasher.finish();
        let wrong = (found != document.id).then(|| format!("its bytes have content id {found}"));
        if let Some(reason) = document.reason.or(wrong) {
            let place = format!("document {}", document.id);
            self.report.problem(place, reason, Remedy::Forget);
            self.report.repairable(Row::Document(document.id));
        }
    }

    /// Entries of the index that lead nowhere; those that are missing are found from the checkpoints.
    pub(super) fn checkpoint_index(&mut self) {
        for row in self.snapshot.iter(&self.keyspaces.checkpoint_ids) {
            let (key, value) = match row.into_inner() {
                Ok(row) => row,
                Err(error) => return self.report.unreadable("index of checkpoints", error),
            };
            let named = self
                .snapshot
                .get(&self.keyspaces.checkpoints, &value)
                .ok()
                .flatten()
                .map(|record| json_from_bytes::<crate::store::CheckpointRecord>("checkpoint", &record));
            let leads_there = match named {
                Some(Ok(record)) => *record.state_hash.digest() == *key,
                // A checkpoint that does not read is said already.
                Some(Err(_)) => true,
                None => false,
            };
            if !leads_there {
                let place = format!("index of checkpoints, {}", hex::encode(&key));
                self.report
                    .problem(place, "no such checkpoint there", Remedy::Forget);
                self.report
                    .repairable(Row::Remove(Table::CheckpointIds, key.to_vec()));
            }
        }
    }

    pub(super) fn small_rows(&mut self) {
        let keyspaces = self.keyspaces;
        self.rows("peer", Table::Peers, &keyspaces.peers, |key, value| {
            std::str::from_utf8(key).map_err(|error| error.to_string())?;
            json_from_bytes::<PeerRecord>("peer", value)
                .map(|_| ())
                .map_err(|error| reason_of(&error))
        });
        self.rows("retry queue", Table::Retry, &keyspaces.retry, |key, value| {
            key_number(key).map_err(|error| reason_of(&error))?;
            any_json(value)
        });
        self.rows("source", Table::Sources, &keyspaces.sources, |key, value| {
            std::str::from_utf8(key).map_err(|error| error.to_string())?;
            any_json(value)
        });
    }

    fn rows(
        &mut self,
        what: &str,
        table: Table,
        keyspace: &Keyspace,
        read: impl Fn(&[u8], &[u8]) -> Result<(), String>,
    ) {
        for row in self.snapshot.iter(keyspace) {
            let (key, value) = match row.into_inner() {
                Ok(row) => row,
                Err(error) => return self.report.unreadable(what, error),
            };
            self.report.counts.other_rows += 1;
            if let Err(reason) = read(&key, &value) {
                let place = format!("{what} {}", String::from_utf8_lossy(&key).escape_debug());
                self.report.problem(place, reason, Remedy::Forget);
                self.report.repairable(Row::Remove(table, key.to_vec()));
            }
        }
    }
}

fn any_json(bytes: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<serde_json::Value>(bytes)
        .map(|_| ())
        .map_err(|error| error.to_string())
}
