//! A chain of other sizes and another checkpoint schedule passes the conformance check.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use honeygraph_chain::conformance::check;
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::state_document::StateDocumentWriter;
use honeygraph_honeycomb::generator::GeneratorSettings;
use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};
use serde_json::{Value, json};

/// Writes a chain in the format of the vectors.
fn vectors_of(chain: &mut ReferenceChain, blocks: usize, state_interval: u64) -> Value {
    let genesis_digest = chain.state().digest().to_string();
    let (mut listed, mut checkpoints, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..blocks {
        let made = chain.next_block().unwrap();
        let mut block: Value = serde_json::from_slice(made.block.bytes()).unwrap();
        block["blockHash"] = json!(made.block.hash());
        listed.push(block);
        if let Some(checkpoint) = &made.checkpoint {
            checkpoints.push(json!({
                "blockNum": made.block.number(),
                "kind": checkpoint.kind,
                "cid": checkpoint.anchor.state_hash,
                "stateDigest": checkpoint.anchor.state_digest,
                "document": serde_json::from_slice::<Value>(&checkpoint.document).unwrap(),
            }));
        }
        if made.block.number().get().is_multiple_of(state_interval) {
            states.push(json!({
                "blockNum": made.block.number(),
                "cid": state_id(chain),
                "stateDigest": made.state_digest,
            }));
        }
    }
    json!({
        "genesis": {
            "document": serde_json::from_slice::<Value>(chain.genesis_document()).unwrap(),
            "cid": chain.genesis_id(),
            "stateDigest": genesis_digest,
        },
        "blocks": listed,
        "checkpoints": checkpoints,
        "states": states,
        "finalState": {
            "blockNum": chain.head().number,
            "document": serde_json::from_slice::<Value>(&state_document(chain)).unwrap(),
            "cid": state_id(chain),
        },
    })
}

fn state_document(chain: &ReferenceChain) -> Vec<u8> {
    let mut writer = StateDocumentWriter::new(chain.head().number);
    for (key, leaf) in chain.state().iter() {
        writer.push(key, leaf).unwrap();
    }
    writer.finish()
}

fn state_id(chain: &ReferenceChain) -> honeygraph_chain::ContentId {
    honeygraph_chain::ContentId::of(&state_document(chain))
}

fn settings(schedule: CheckpointSchedule) -> ChainSettings {
    ChainSettings {
        generator: GeneratorSettings {
            accounts: 20,
            open_entries: 10,
            ..GeneratorSettings::default()
        },
        schedule,
        ..ChainSettings::default()
    }
}

const GENESIS: &[u8] = br#"[1001,{"balances":{"alice":5}}]"#;

#[test]
fn a_chain_of_another_network_passes() {
    let schedule = CheckpointSchedule {
        delta_interval: 7,
        delta_offset: 3,
        state_interval: 21,
        state_offset: 3,
    };
    let mut chain = ReferenceChain::from_genesis(GENESIS, settings(schedule)).unwrap();
    let mut file = vectors_of(&mut chain, 200, 10);
    let report = check(&serde_json::to_vec(&file).unwrap());
    assert!(report.is_success(), "{report}");
    assert_eq!(report.passed(), 3 + 200 * 3 + 29 * 4 + 20 * 2 + 4);
    // Without the list the default schedule is wrong for this network: the links after its 28 checkpoints
    // (none follows the last one) and after the two of the default fail.
    file.as_object_mut().unwrap().remove("checkpoints");
    let report = check(&serde_json::to_vec(&file).unwrap());
    assert_eq!(report.failures().len(), 28 + 2, "{report}");
}

#[test]
fn the_default_schedule_serves_where_no_checkpoint_is_listed() {
    let mut chain = ReferenceChain::from_genesis(GENESIS, settings(CheckpointSchedule::default())).unwrap();
    let mut file = vectors_of(&mut chain, 350, 50);
    file.as_object_mut().unwrap().remove("checkpoints");
    let report = check(&serde_json::to_vec(&file).unwrap());
    assert!(report.is_success(), "{report}");
}
