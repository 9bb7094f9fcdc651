//! Conformance: checks a file of vectors against this implementation.
//!
//! The format is that of `chain/tests/data/honeycomb.json`; every part is optional and may have any size.
//! Anyone who implements the protocol can compare:
//!
//! | part | entries | what is checked |
//! |---|---|---|
//! | `canonicalJson` | `{value, canonical, cid}` | the canonical text and its content id |
//! | `cids` | `{len, rule, cid}` | the content id of `len` bytes made by `rule` |
//! | `publishedStates` | `{document, cid}` | the content id of the document, and that it reads as a state |
//! | `genesis` | `{document, cid, stateDigest}` | content id and digest; the state that the blocks start from |
//! | `blocks` | `{blockNum, previousHash, operations, blockHash}` | hash, link, indexes, state rules |
//! | `checkpoints` | `{blockNum, kind, cid, stateDigest, document}` | the document as given, the document recomputed from the blocks, the digest |
//! | `states` | `{blockNum, cid, stateDigest}` | the full state document and the digest at a block |
//! | `finalState` | `{blockNum, document, cid}` | the document as given and recomputed |
//!
//! Nothing passes unread: a malformed entry, a part given twice, a list or an object under an unknown name,
//! an entry of which nothing can be compared (a state that the blocks do not reach) and a file without any
//! entry are failures. Scalars under unknown names (`note`) describe the file and are ignored. Fields
//! beyond the format's (`timestamp`) are never hashed and are ignored too. What can be compared only in
//! part, because the file leaves the chain out, is said in a note.
//!
//! Which blocks are checkpoints is a parameter of the network: the part `checkpoints` says it, and where the
//! file has none, [`CheckpointSchedule::default`](crate::network::CheckpointSchedule) does.

mod chain_walk;
mod report;

pub use report::{Failure, Place, Report};

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::JsonValue;
use crate::block_number::BlockNumber;
use crate::content_id::{ContentHasher, ContentId};
use crate::state::MemoryState;
use chain_walk::{ChainParts, check_chain};

/// The one rule by which `cids` makes its bytes.
const BYTE_RULE: &str = "byte[i] = (i*31 + (i>>8)) & 255";

/// After this many bytes [`BYTE_RULE`] repeats itself: `i >> 8` modulo 256 does.
const BYTE_RULE_PERIOD: u64 = 1 << 16;

/// The longest file that `cids` may ask for, 64 GiB: a minute of hashing, three levels of links.
const LONGEST_FILE: u64 = 1 << 36;

/// Checks every part of a file of vectors. Pure; malformed input is a failure in the report.
pub fn check(file: &[u8]) -> Report {
    let mut report = Report::default();
    let parts = match serde_json::from_slice::<Parts<'_>>(file) {
        Ok(parts) => parts.0,
        Err(error) => {
            report.fail(Place::part("file"), "a JSON object of parts", error);
            return report;
        }
    };
    let mut chain = ChainParts::default();
    let mut seen = Vec::new();
    for (name, raw) in parts {
        if seen.contains(&name) {
            report.fail(Place::part(&name), "each part once", "the part again");
            continue;
        }
        match name.as_str() {
            "canonicalJson" => check_canonical_json(raw, &mut report),
            "cids" => check_cids(raw, &mut report),
            "publishedStates" => check_published_states(raw, &mut report),
            "genesis" => chain.genesis = Some(raw),
            "blocks" => chain.blocks = Some(raw),
            "checkpoints" => chain.checkpoints = Some(raw),
            "states" => chain.states = Some(raw),
            "finalState" => chain.final_state = Some(raw),
            _ if raw.get().starts_with(['[', '{']) => {
                report.fail(Place::part(&name), "a part of the format", "an unknown part");
            }
            _ => {}
        }
        seen.push(name);
    }
    check_chain(&chain, &mut report);
    if report.passed() == 0 && report.failures().is_empty() {
        report.fail(Place::part("file"), "at least one vector", "none");
    }
    report
}

/// The members of the file, each as its raw text, so that a malformed one does not hide the others.
struct Parts<'file>(Vec<(String, &'file RawValue)>);

impl<'de> Deserialize<'de> for Parts<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartsVisitor;

        impl<'de> Visitor<'de> for PartsVisitor {
            type Value = Parts<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object of parts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Parts<'de>, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = access.next_entry()? {
                    parts.push(part);
                }
                Ok(Parts(parts))
            }
        }

        deserializer.deserialize_map(PartsVisitor)
    }
}

/// Reads one entry; a malformed one is a failure.
fn entry<'file, T: Deserialize<'file>>(place: Place, raw: &'file RawValue, report: &mut Report) -> Option<T> {
    serde_json::from_str(raw.get())
        .map_err(|error| report.fail(place, "an entry of the format", error))
        .ok()
}

/// Reads the entries of a list one by one, with their indexes; malformed ones are failures and left out.
fn entries<'file, T: Deserialize<'file>>(
    part: &'static str,
    raw: &'file RawValue,
    report: &mut Report,
) -> Vec<(usize, T)> {
    let items: Vec<&RawValue> = match serde_json::from_str(raw.get()) {
        Ok(items) => items,
        Err(error) => {
            report.fail(Place::part(part), "a list", error);
            return Vec::new();
        }
    };
    items
        .into_iter()
        .enumerate()
        .filter_map(|(index, item)| Some((index, entry(Place::entry(part, index), item, report)?)))
        .collect()
}

#[derive(Deserialize)]
struct CanonicalVector {
    value: JsonValue,
    canonical: String,
    cid: ContentId,
}

fn check_canonical_json(raw: &RawValue, report: &mut Report) {
    for (index, vector) in entries::<CanonicalVector>("canonicalJson", raw, report) {
        let place = Place::entry("canonicalJson", index);
        let canonical = vector.value.to_canonical();
        report.compare(
            place.field("canonical"),
            &vector.canonical,
            &String::from_utf8_lossy(&canonical).into_owned(),
        );
        report.compare(place.field("cid"), &vector.cid, &ContentId::of(&canonical));
    }
}

#[derive(Deserialize)]
struct ContentVector {
    len: u64,
    rule: String,
    cid: ContentId,
}

fn check_cids(raw: &RawValue, report: &mut Report) {
    for (index, vector) in entries::<ContentVector>("cids", raw, report) {
        let place = Place::entry("cids", index);
        if vector.rule != BYTE_RULE {
            report.fail(place.field("rule"), format!("`{BYTE_RULE}`"), vector.rule);
        } else if vector.len > LONGEST_FILE {
            report.fail(place.field("len"), format!("at most {LONGEST_FILE}"), vector.len);
        } else {
            report.compare(place.field("cid"), &vector.cid, &id_of_ruled_bytes(vector.len));
        }
    }
}

/// The content id of `length` bytes made by [`BYTE_RULE`]; holds one period of them.
fn id_of_ruled_bytes(length: u64) -> ContentId {
    let period: Vec<u8> = (0..BYTE_RULE_PERIOD)
        .map(|at| (at * 31 + (at >> 8)).to_le_bytes()[0])
        .collect();
    let mut hasher = ContentHasher::new();
    for _ in 0..length / BYTE_RULE_PERIOD {
        hasher.update(&period);
    }
    let rest = usize::try_from(length % BYTE_RULE_PERIOD).unwrap_or_default();
    hasher.update(&period[..rest]);
    hasher.finish()
}

#[derive(Deserialize)]
struct PublishedState {
    document: JsonValue,
    cid: ContentId,
}

fn check_published_states(raw: &RawValue, report: &mut Report) {
    for (index, vector) in entries::<PublishedState>("publishedStates", raw, report) {
        let place = Place::entry("publishedStates", index);
        check_state_document(&place, &vector.document, vector.cid, report);
    }
}

/// Checks the content id of a full state document and reads it.
fn check_state_document(
    place: &Place,
    document: &JsonValue,
    cid: ContentId,
    report: &mut Report,
) -> Option<(BlockNumber, MemoryState)> {
    let canonical = document.to_canonical();
    report.compare(place.field("cid"), &cid, &ContentId::of(&canonical));
    match MemoryState::from_document(canonical.as_slice()) {
        Ok(state) => {
            report.pass();
            Some(state)
        }
        Err(error) => {
            report.fail(place.field("document"), "[n+1, state]", error);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(file: &str) -> Vec<String> {
        check(file.as_bytes())
            .failures()
            .iter()
            .map(Failure::to_string)
            .collect()
    }

    #[test]
    fn ruled_bytes_follow_their_rule_beyond_a_period() {
        let bytes: Vec<u8> = (0..200_001_u64)
            .map(|at| u8::try_from((at * 31 + (at >> 8)) & 255).unwrap())
            .collect();
        assert_eq!(id_of_ruled_bytes(200_001), ContentId::of(&bytes));
    }

    #[test]
    fn malformed_files_are_failures() {
        for file in [
            "",
            "[]",
            "7",
            "{}",
            "{\"cids\":[]}",
            "{\"cids\":{}}",
            "{\"cids\":[7]}",
            "{\"cids\":[{\"len\":-1,\"rule\":\"byte[i] = (i*31 + (i>>8)) & 255\",\"cid\":\"Qm\"}]}",
            "{\"cids\":[]",
            "{\"blocks\":[{}]}",
            "{\"blocks\":7}",
            "{\"genesis\":[]}",
            "{\"genesis\":null}",
            "{\"states\":[null]}",
            "{\"checkpoints\":\"none\"}",
            "{\"finalState\":{\"blockNum\":-1}}",
            "{\"canonicalJson\":[{\"value\":\"\\ud800\",\"canonical\":\"\",\"cid\":\"\"}]}",
            "{\"canonicalJson\":[{\"value\":1e999,\"canonical\":\"\",\"cid\":\"\"}]}",
        ] {
            assert!(!failures(file).is_empty(), "{file}");
        }
        assert!(!check(b"\xff\xfe").failures().is_empty());
        let deep = format!("{{\"canonicalJson\":{}", "[".repeat(100_000));
        assert!(!failures(&deep).is_empty());
    }

    #[test]
    fn an_unknown_rule_or_length_is_refused() {
        let cid = ContentId::of(b"");
        assert_eq!(
            failures(&format!(
                "{{\"cids\":[{{\"len\":0,\"rule\":\"byte[i] = 0\",\"cid\":\"{cid}\"}}]}}"
            )),
            ["cids[0] rule: expected `byte[i] = (i*31 + (i>>8)) & 255`, got byte[i] = 0"]
        );
        let long =
            format!("{{\"cids\":[{{\"len\":99999999999999,\"rule\":\"{BYTE_RULE}\",\"cid\":\"{cid}\"}}]}}");
        assert_eq!(failures(&long).len(), 1);
    }

    #[test]
    fn unknown_and_doubled_parts_are_failures_and_scalars_are_not() {
        let cids = format!(
            "\"cids\":[{{\"len\":0,\"rule\":\"{BYTE_RULE}\",\"cid\":\"{}\"}}]",
            ContentId::of(b"")
        );
        assert!(failures(&format!("{{\"note\":\"x\",\"version\":1,{cids}}}")).is_empty());
        assert_eq!(failures(&format!("{{\"chekpoints\":[],{cids}}}")).len(), 1);
        assert_eq!(failures(&format!("{{{cids},{cids}}}")).len(), 1);
    }
}
