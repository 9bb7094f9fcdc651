use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::operation::OperationError;
use honeygraph_chain::{Block, BlockNumber, BlockRange, ContentId, JsonValue, Operation, Operations, Path};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn number(number: u64) -> BlockNumber {
    BlockNumber::try_from(number).unwrap()
}

/// Reads a shape and checks that it is written the same way.
fn same<T: DeserializeOwned + Serialize>(value: impl Into<Value>) -> T {
    let value = value.into();
    let read: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), value);
    read
}

#[test]
fn the_shapes_of_the_javascript_node_are_read_and_written_exactly() {
    same::<SyncStatus>(json!({"isSyncing": true, "lastSyncBlock": 5, "peers": [
        {"id": "a", "url": "http://a:3030", "isAlive": true, "reliability": 0.5, "lastSeen": 1_700_000_000_000_u64}
    ]}));
    same::<Gaps>(
        json!({"fromBlock": 1, "toBlock": 9, "gaps": [{"start": 2, "end": 3, "size": 2}], "totalMissing": 2}),
    );
    same::<RegisterPeer>(json!({"peerId": "a", "url": "http://a:3030"}));
    same::<RegisterPeerAnswer>(json!({"success": true, "peerId": "a"}));
    same::<PeerEntries>(json!([{"id": "a", "url": "http://a:3030"}]));
    same::<Discover>(json!({"nodes": [{"id": "a", "url": "http://a:3030"}]}));
    same::<DiscoverAnswer>(json!({"success": true, "totalPeers": 3}));
    same::<SyncGapsRequest>(json!({"gaps": [{"start": 2, "end": 3, "size": 2}], "targetFork": "main"}));
    same::<SyncGapsAnswer>(json!({"success": true, "results":
        {"totalGaps": 1, "syncedBlocks": 2, "failedBlocks": 0, "peers": {"a": 2}}}));
    let in_progress = same::<SyncGapsAnswer>(json!({"success": false, "reason": "sync_in_progress"}));
    assert_eq!(in_progress, SyncGapsAnswer::in_progress());
    let none = same::<SyncGapsAnswer>(json!({"success": true, "message": "No gaps detected"}));
    assert_eq!(none, SyncGapsAnswer::no_gaps());
    same::<ConsensusAnswer>(json!({"blockNum": 5, "consensus":
        {"blockHash": "abc", "peers": ["a"], "confidence": 0.75}}));
    same::<BlockErrorAnswer>(json!({"error": "No consensus found", "blockNum": 5}));
    same::<BlockErrorAnswer>(json!({"error": "Block not found", "blockNum": 5, "fork": "main"}));
    same::<ErrorAnswer>(json!({"error": "nodes array required"}));
    same::<Head>(json!({"head": 5, "fork": "main"}));
    same::<FullBlock>(json!({
        "blockNum": 5, "blockHash": "h", "previousHash": "p", "timestamp": "2024-01-01T00:00:00.000Z",
        "forkId": "main", "isFinalized": true, "peerId": "a",
        "operations": [
            {"index": 0, "type": "put", "path": ["a", "b"], "data": null, "previousValue": 1,
             "timestamp": "2024-01-01T00:00:00.000Z", "reverted": false},
            {"index": 1, "type": "write_marker", "timestamp": null, "reverted": false}
        ]
    }));
}

#[test]
fn what_only_ours_have_round_trips() {
    let hash = ContentId::of(b"x").to_string();
    let digest = "ab".repeat(32);
    same::<Capabilities>(json!({
        "protocol": 1, "network": "dlux", "peerId": "a", "version": "0.1.0", "base": 1, "head": 9, "lib": 5,
        "batch": {"maxBlocks": 512, "cutBytes": 4_194_304}, "features": ["state"]
    }));
    same::<Anchors>(
        json!({"anchors": [{"blockNum": 1, "blockHash": hash, "stateHash": hash,
        "stateDigest": digest, "agreement": "agreed"}]}),
    );
    same::<HashAnswer>(json!({"blockNum": 1, "blockHash": hash, "previousHash": hash, "isFinalized": true}));
    same::<Checkpoints>(
        json!({"checkpoints": [{"blockNum": 1, "kind": "delta", "stateHash": hash,
        "blockHash": hash, "stateDigest": digest, "documentBytes": 7}]}),
    );
    same::<StateAnswer>(
        json!({"path": "a/b", "fork": "main", "blockNum": 1, "truncated": false, "data": {"c": 1}}),
    );
    same::<SyncStatus>(json!({
        "isSyncing": false, "lastSyncBlock": 5, "peers": [], "head": 9, "stateHeight": 9, "lib": 5,
        "networkHead": 10, "lag": 1,
        "gaps": {"count": 1, "totalMissing": 2, "first": {"start": 2, "end": 3, "size": 2}},
        "forks": {"canonical": "main", "reorganizations": 0, "others": [
            {"forkId": "f", "head": 9, "headHash": hash, "commonAncestor": 7}]},
        "checkpoint": {"blockNum": 1, "blockHash": hash, "stateHash": hash, "stateDigest": digest,
            "agreement": "unanchored"},
        "verification": {"policy": "strict", "verifiedHeight": 1, "unverifiedBlocks": 0, "agreement": "agreed"},
        "mode": "follow",
        "dgraph": {"mode": "shared", "connected": true, "appliedBlock": 8, "appliedHash": hash, "stateBlock": 7,
            "lagBlocks": 1, "mismatch": {"block": 6, "logHash": hash, "dgraphHash": hash}, "lastError": "away"}
    }));
}

#[test]
fn older_and_newer_nodes_are_read_leniently() {
    let status: SyncStatus =
        serde_json::from_value(json!({"isSyncing": false, "uptime": 7, "mode": "dreaming",
            "dgraph": {"mode": "rented"}}))
        .unwrap();
    assert_eq!((status.head, status.mode), (None, Some(SyncMode::Unknown)));
    let head: Head = serde_json::from_value(json!({"head": null})).unwrap();
    assert_eq!(head.fork, MAIN_FORK);
    let block: FullBlock =
        serde_json::from_value(json!({"uid": "0x1", "blockNum": 5, "blockHash": "h"})).unwrap();
    assert_eq!(block.operations.as_slice(), []);
    for no_time in [
        json!("0001-01-01T00:00:00Z"),
        json!("soon"),
        json!({"a": 1}),
        json!(-1),
    ] {
        let block: FullBlock = serde_json::from_value(json!({"blockNum": 5, "timestamp": no_time})).unwrap();
        assert_eq!(block.timestamp, None);
        let peer: PeerStatus =
            serde_json::from_value(json!({"id": "a", "reliability": null, "lastSeen": no_time})).unwrap();
        assert_eq!(peer.last_seen, None);
    }
}

#[test]
fn impossible_numbers_are_refused() {
    assert!(serde_json::from_value::<Head>(json!({"head": -1})).is_err());
    assert!(serde_json::from_value::<Head>(json!({"head": 1e300})).is_err());
    assert!(serde_json::from_value::<Gap>(json!({"start": 1, "end": -1})).is_err());
    let backward: Gap = serde_json::from_value(json!({"start": 2, "end": 1})).unwrap();
    assert!(BlockRange::try_from(backward).is_err());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(serde_json::from_str::<FullBlock>(&deep).is_err());
    let nested =
        format!("{{\"blockNum\":1,\"operations\":[{{\"index\":0,\"type\":\"put\",\"data\":{deep}}}]}}");
    assert!(serde_json::from_str::<FullBlock>(&nested).is_err());
}

#[test]
fn a_million_gaps_are_cut() {
    let gaps = vec![r#"{"start":1,"end":1}"#; 1_000_000].join(",");
    let request: SyncGapsRequest = serde_json::from_str(&format!("{{\"gaps\":[{gaps}]}}")).unwrap();
    assert_eq!(request.gaps.as_slice().len(), MAX_LISTED_GAPS);
    assert_eq!(request.gaps.sent(), 1_000_000);
}

fn full(operations: &Value) -> Result<ReportedBlock, FullBlockError> {
    let block: FullBlock =
        serde_json::from_value(json!({"blockNum": 5, "blockHash": "opaque", "operations": operations}))
            .unwrap();
    block.into_reported(number(5))
}

fn expected() -> Operations {
    Operations::new(vec![
        Operation::Put {
            path: Path(vec!["a".to_owned(), "b".to_owned()]),
            data: JsonValue::Number(1.0),
        },
        Operation::Del {
            path: Path(vec!["c".to_owned()]),
        },
        Operation::WriteMarker,
    ])
    .unwrap()
}

#[test]
fn operations_are_the_same_in_every_spelling() {
    let ours = full(&json!([
        {"index": 0, "type": "put", "path": ["a", "b"], "data": 1},
        {"index": 1, "type": "del", "path": ["c"]},
        {"index": 2, "type": "write_marker"}
    ]));
    let running_and_unsorted = full(&json!([
        {"index": 72, "type": "write_marker", "path": "", "data": null},
        {"index": 70, "type": "put", "path": "a/b", "data": 1},
        {"index": 71, "type": "del", "path": "/c/", "data": null}
    ]));
    let stored_form = full(&json!([
        {"index": 0, "type": "PUT", "path": "a/b", "data": "1"},
        {"index": 1, "type": "DEL", "path": "c"},
        {"index": 2, "type": "WRITE_MARKER", "path": ""}
    ]));
    for block in [ours, running_and_unsorted, stored_form] {
        let block = block.unwrap();
        assert_eq!(block.operations, expected());
        assert_eq!(block.hash, Some(ReportedHash("opaque".to_owned())));
        assert_eq!(block.previous_hash, None);
    }
}

#[test]
fn text_data_stays_text_unless_it_is_the_stored_form() {
    let data = |kind: &str| {
        let block = full(&json!([
            {"index": 0, "type": kind, "path": "a", "data": "1"}, {"index": 1, "type": "write_marker"}
        ]))
        .unwrap();
        block.operations.as_slice()[0].data().cloned().unwrap()
    };
    assert_eq!(data("put"), JsonValue::String("1".to_owned()));
    assert_eq!(data("PUT"), JsonValue::Number(1.0));
}

#[test]
fn broken_blocks_are_refused() {
    let marker = |index: u64| json!({"index": index, "type": "write_marker"});
    let hole = full(&json!([marker(0), marker(2)]));
    assert!(matches!(
        hole,
        Err(FullBlockError::BrokenIndex {
            expected: 1,
            found: 2,
            ..
        })
    ));
    let doubled = full(&json!([marker(3), marker(3)]));
    assert!(matches!(
        doubled,
        Err(FullBlockError::BrokenIndex {
            expected: 4,
            found: 3,
            ..
        })
    ));
    let unknown = full(&json!([{"index": 0, "type": "drop", "path": "a"}]));
    assert!(matches!(
        unknown,
        Err(FullBlockError::UnknownType { index: 0, .. })
    ));
    let without_data = full(&json!([{"index": 0, "type": "put", "path": "a"}, marker(1)]));
    assert!(matches!(
        without_data,
        Err(FullBlockError::Operation {
            error: OperationError::DataMissing(_),
            ..
        })
    ));
    let open = full(&json!([{"index": 0, "type": "del", "path": "a"}]));
    assert!(matches!(open, Err(FullBlockError::UnclosedBatch { .. })));
    let block: FullBlock = serde_json::from_value(json!({"blockNum": 5})).unwrap();
    assert!(matches!(
        block.into_reported(number(6)),
        Err(FullBlockError::WrongNumber { .. })
    ));
    let highest = full(&json!([marker(u64::MAX), marker(u64::MAX)]));
    assert!(matches!(highest, Err(FullBlockError::BrokenIndex { .. })));
}

#[test]
fn our_own_block_comes_back_from_its_full_shape() {
    let block = HashedBlock::from(Block {
        number: number(5),
        previous_hash: ContentId::of(b"before"),
        operations: expected(),
    });
    let shape = FullBlock::from_block(&block, Some(crate::wire::UnixMillis(1_700_000_000_000)), "me");
    let text = serde_json::to_string(&shape).unwrap();
    let read: FullBlock = serde_json::from_str(&text).unwrap();
    let reported = read.into_reported(number(5)).unwrap();
    assert_eq!(reported.operations, expected());
    assert_eq!(reported.hash, Some(ReportedHash(block.hash().to_string())));
    assert_eq!(
        reported.timestamp,
        Some(crate::wire::UnixMillis(1_700_000_000_000))
    );
}
