//! Every vector passes, and a vector that is wrong does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use honeygraph_chain::conformance::{Report, check};
use serde_json::{Value, json};

const VECTORS: &[u8] = include_bytes!("data/honeycomb.json");

fn vectors() -> Value {
    serde_json::from_slice(VECTORS).unwrap()
}

/// The vectors without those that take long to hash.
fn chain_vectors() -> Value {
    let mut file = vectors();
    file.as_object_mut().unwrap().remove("cids");
    file
}

fn check_value(file: &Value) -> Report {
    check(&serde_json::to_vec(file).unwrap())
}

#[test]
fn every_vector_passes() {
    let report = check(VECTORS);
    assert!(report.is_success(), "{report}");
    assert!(report.notes().is_empty(), "{report}");
    // Canonical texts and ids; ids; published states; genesis; blocks with hash, link and state; checkpoints
    // with number, document, recomputed id and digest; states; the final state.
    assert_eq!(
        report.passed(),
        60 * 2 + 11 + 2 * 2 + 3 + 500 * 3 + 5 * 4 + 25 * 2 + 4
    );
}

/// Changes one thing; the report must blame that place.
fn mutated(pointer: &str, value: Value, blamed: &str) {
    let mut file = chain_vectors();
    let target = file.pointer_mut(pointer).expect(pointer);
    assert_ne!(*target, value, "{pointer} is no mutation");
    *target = value;
    let report = check_value(&file);
    assert!(
        report
            .failures()
            .iter()
            .any(|failure| failure.to_string().starts_with(blamed)),
        "{pointer}: {blamed} not in\n{report}"
    );
}

#[test]
fn a_changed_vector_fails() {
    let foreign = || json!("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH");
    let digest = || json!("0".repeat(64));
    mutated(
        "/canonicalJson/7/canonical",
        json!("{}"),
        "canonicalJson[7] canonical",
    );
    mutated("/canonicalJson/7/cid", foreign(), "canonicalJson[7] cid");
    mutated(
        "/canonicalJson/7/value",
        json!(null),
        "canonicalJson[7] canonical",
    );
    mutated("/publishedStates/1/cid", foreign(), "publishedStates[1] cid");
    mutated(
        "/publishedStates/1/document/1/balances/dlux-io",
        json!(1),
        "publishedStates[1] cid",
    );
    mutated(
        "/publishedStates/0/document/0",
        json!("x"),
        "publishedStates[0] document",
    );
    mutated("/genesis/cid", foreign(), "genesis cid");
    mutated("/genesis/stateDigest", digest(), "genesis stateDigest");
    mutated(
        "/genesis/document/1/balances/ackza",
        json!(7),
        "blocks[0] previousHash",
    );
    mutated("/blocks/3/blockNum", json!(7), "blocks[3] blockNum");
    mutated("/blocks/3/previousHash", foreign(), "blocks[3] previousHash");
    mutated("/blocks/3/blockHash", foreign(), "blocks[3] blockHash");
    mutated("/blocks/0/operations/0/data", json!("y"), "blocks[0] blockHash");
    mutated("/blocks/0/operations/0/data", json!("y"), "states[0] cid");
    mutated(
        "/blocks/0/operations/0/index",
        json!(1),
        "blocks[0]: expected a block",
    );
    mutated(
        "/blocks/0/operations/6/type",
        json!("del"),
        "blocks[0]: expected a block",
    );
    mutated(
        "/blocks/0/operations/0/path",
        json!(["balances"]),
        "blocks[0] operations",
    );
    // The first blocks after a delta and after a full state.
    mutated("/blocks/100/previousHash", foreign(), "blocks[100] previousHash");
    mutated("/blocks/300/previousHash", foreign(), "blocks[300] previousHash");
    mutated(
        "/checkpoints/1/blockNum",
        json!(28_559_302),
        "checkpoints[1] document number",
    );
    mutated("/checkpoints/1/kind", json!("state"), "checkpoints[1] cid");
    mutated("/checkpoints/2/kind", json!("delta"), "checkpoints[2] cid");
    mutated("/checkpoints/1/cid", foreign(), "checkpoints[1] cid");
    mutated(
        "/checkpoints/1/stateDigest",
        digest(),
        "checkpoints[1] stateDigest",
    );
    mutated(
        "/checkpoints/3/document/1/prev_root",
        json!(""),
        "checkpoints[3] document",
    );
    mutated(
        "/checkpoints/2/document/1/spk",
        json!({}),
        "checkpoints[2] document",
    );
    mutated(
        "/states/24/blockNum",
        json!(28_559_602),
        "states[24] (block 28559602)",
    );
    mutated("/states/9/cid", foreign(), "states[9] cid");
    mutated("/states/9/stateDigest", digest(), "states[9] stateDigest");
    mutated("/finalState/cid", foreign(), "finalState cid");
    mutated("/finalState/cid", foreign(), "finalState state");
    mutated(
        "/finalState/blockNum",
        json!(28_559_600),
        "finalState document number",
    );
    mutated("/finalState/document/1/stats", json!({}), "finalState cid");
}

#[test]
fn a_changed_content_id_fails() {
    let mut ids = vectors()["cids"].clone();
    ids.as_array_mut().unwrap().truncate(8);
    assert!(check_value(&json!({ "cids": ids })).is_success());
    ids[3]["len"] = json!(262_142);
    let report = check_value(&json!({ "cids": ids }));
    assert_eq!((report.passed(), report.failures().len()), (7, 1));
}

/// Ids from an independent implementation of the tree layout: full and barely started nodes of links.
#[test]
fn content_ids_of_other_lengths_pass() {
    let rule = "byte[i] = (i*31 + (i>>8)) & 255";
    let file = json!({ "cids": [
        { "len": 786_431, "rule": rule, "cid": "Qmdp658hnK8Lh1SY5mrzoWKaCD2X34dUyYdXmDBajbPbaS" },
        { "len": 91_226_112, "rule": rule, "cid": "QmU8sUZgyaJbqirQm1KfhCXdPt5ug3fizSMVXBxR4bwxgs" },
        { "len": 91_226_113, "rule": rule, "cid": "QmRfsci5qosF7kxmibp2MtbuEbzNyC9ymW6JtvqTEzj9wL" },
    ] });
    let report = check_value(&file);
    assert!(report.is_success(), "{report}");
}

proptest::proptest! {
    /// Whatever bytes stand in a file, the check ends with a report.
    #[test]
    fn damaged_files_never_panic(place in 0_usize..30_000, byte: u8, length in 0_usize..60_000) {
        let mut file = chain_vectors();
        for part in ["canonicalJson", "blocks", "states"] {
            file[part].as_array_mut().unwrap().truncate(25);
        }
        for part in ["publishedStates", "checkpoints"] {
            file[part].as_array_mut().unwrap().truncate(1);
        }
        let mut bytes = serde_json::to_vec(&file).unwrap();
        bytes[place] = byte;
        let damaged = check(&bytes);
        proptest::prop_assert!(damaged.passed() > 0 || !damaged.is_success());
        bytes.truncate(length);
        proptest::prop_assert!(!check(&bytes).is_success());
    }
}

#[test]
fn any_entry_that_is_malformed_fails_and_nothing_panics() {
    let file = chain_vectors();
    for part in [
        "canonicalJson",
        "publishedStates",
        "blocks",
        "checkpoints",
        "states",
    ] {
        for broken in [json!(null), json!([]), json!({}), json!("x"), json!(-1)] {
            let mut file = file.clone();
            file[part][1] = broken.clone();
            let report = check_value(&file);
            let blamed = format!("{part}[1]");
            assert!(
                report
                    .failures()
                    .iter()
                    .any(|failure| failure.to_string().starts_with(&blamed)),
                "{part} {broken}: {report}"
            );
        }
    }
    for part in ["genesis", "finalState", "blocks", "checkpoints", "states"] {
        let mut file = file.clone();
        file[part] = json!({ "blockNum": "x" });
        assert!(!check_value(&file).is_success(), "{part}");
    }
}

/// Every part is optional: what remains is checked as far as it goes.
#[test]
fn parts_may_be_left_out() {
    let whole = chain_vectors();
    let only = |parts: &[&str]| {
        let file: serde_json::Map<_, _> = parts
            .iter()
            .map(|part| ((*part).to_owned(), whole[*part].clone()))
            .collect();
        check_value(&Value::Object(file))
    };
    for parts in [
        vec!["canonicalJson"],
        vec!["publishedStates"],
        vec!["genesis"],
        vec!["blocks", "checkpoints"],
        vec!["checkpoints"],
        vec!["finalState"],
        vec!["genesis", "blocks"],
        vec!["genesis", "blocks", "checkpoints"],
        vec!["genesis", "blocks", "states", "finalState"],
    ] {
        let report = only(&parts);
        assert!(report.is_success() && report.passed() > 0, "{parts:?}\n{report}");
    }
    // Blocks alone: the hashes stand, the links after a boundary are taken as given and said to be.
    let report = only(&["blocks"]);
    assert!(report.is_success(), "{report}");
    assert_eq!(report.notes().len(), 1 + 4, "{report}");
    // States that nothing leads to cannot pass.
    assert_eq!(only(&["states"]).failures().len(), 25);
    assert_eq!(only(&["genesis", "states"]).failures().len(), 25);
}
