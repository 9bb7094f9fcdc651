//! Bad input over real sockets, to whole running nodes: what is refused with a clear error or counted, leaves
//! nothing half applied and no committed block lost. After each scenario the node is stopped and its whole store
//! read.
//!
//! | bad input | to the API | from a source | from a peer |
//! |---|---|---|---|
//! | truncated, oversized, of a wrong type, not UTF-8, deeply nested | `bad_requests_..` | `a_source_..`, `ingest/tests.rs` | `answers_..`, `wrong_blocks_..`, `false_descriptions_..` |
//! | blocks larger than was booked for them | | | `no_more_is_held_..` |
//! | compressed bomb | `bad_requests_..`, `memory_..` | no compression is spoken | `memory_..` |
//! | frames out of order, no end frame, wrong checksum or count, cut off | | | `answers_..`; each byte: `wire/batch/tests.rs` |
//! | another number, broken link, wrong hash, hole in `index` | | `ingest/assembler/tests.rs` | `wrong_blocks_..` |
//! | a leaf where a subtree stands | | `.._leaf_over_a_subtree_..` | `wrong_blocks_..` |
//! | a chain that is right in itself and another one | | | `wrong_blocks_..`, `a_lie_..` |
//! | head of 10^12, of -1, of null | `bad_requests_..` | `a_source_..`, `ingest/tests.rs` | `false_descriptions_..` |
//! | a first block that does not exist, another network | | `ingest/tests.rs` | `false_descriptions_..`, `blocks_that_..` |
//! | a head that the clock allows and nobody has | | | `blocks_that_..` |
//! | `from` above `to`, block 0 | `bad_requests_..` | `a_source_..` | |
//! | gaps that overlap, or 10^6 of them | `bad_requests_..`, `memory_..` | | |
//! | a checkpoint of the past with another id or block | | | `history.rs` |
//! | 10,000 peers | `ten_thousand_..` | | `ten_thousand_..`, `false_descriptions_..` |
//! | 429, 5xx, a redirect to loopback | | | `answers_..`; addresses: `peers/client/tests/guarding.rs` |
//! | slow, silent, broken off | `api/tests/sockets.rs` | `ingest/tests.rs` | `answers_..` |
//! | blocks without hashes of their own | | | `operations_of_older_peers_..` |

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod hostile {
    mod answers;
    mod bombs;
    mod fault;
    mod gate;
    mod history;
    mod lists;
    mod memory;
    mod observe;
    mod peer;
    mod requests;
    mod sources;
    mod start;
    mod withstand;
    mod world;

    /// Taken by every test, and by the one that measures memory alone.
    static ALONE: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());
}
