//! Every call, asked as it should be.

use honeygraph_chain::JsonValue;
use serde_json::json;

use super::*;

#[tokio::test]
async fn health() {
    assert_eq!(
        Fixture::new().get("/health").await.good(),
        json!({"status": "ok"})
    );
}

#[tokio::test]
async fn status_says_where_the_node_stands() {
    let node = Fixture::new();
    let status = node.get("/api/sync/status").await.good();
    assert_eq!(status["head"], at(HEAD).get());
    assert_eq!(status["stateHeight"], at(HEAD).get());
    assert_eq!(status["lastSyncBlock"], at(HEAD).get());
    assert_eq!(status["lib"], at(FINAL).get());
    assert_eq!(status["networkHead"], at(HEAD).get());
    assert_eq!(status["lag"], 0);
    assert_eq!(status["gaps"], json!({"count": 0, "totalMissing": 0}));
    assert_eq!(status["mode"], "follow");
    assert_eq!(status["isSyncing"], false);
    assert_eq!(
        status["peers"][1],
        json!({"id": "silent", "url": "http://silent.example:3030", "source": "registered", "isAlive": false,
            "reliability": 0.75, "lastSeen": 1_700_000_000_000_u64})
    );
    let tip = node.fork.last().unwrap();
    assert_eq!(
        status["forks"]["others"],
        json!([{"forkId": tip.hash().to_string(), "head": tip.number(), "headHash": tip.hash().to_string(),
            "commonAncestor": at(340).get()}])
    );
    assert_eq!(status["checkpoint"]["blockNum"], at(299).get());
    assert_eq!(status["checkpoint"]["agreement"], "undecided");
    // Computed here, and not agreed on yet.
    assert_eq!(status["verification"]["verifiedHeight"], at(299).get());
}

#[tokio::test]
async fn a_checkpoint_that_was_taken_as_it_was_reported_proves_nothing() {
    use honeygraph_chain::checkpoint::PreviousRoot;

    let node = Fixture::new();
    let mut reported = node.store.view().checkpoint(at(199)).unwrap().unwrap();
    reported.prev_root = PreviousRoot::Unknown;
    let newer = node.store.view().checkpoint(at(299)).unwrap().unwrap();
    node.replica
        .write(move |transaction| {
            transaction.remove_checkpoint(&newer);
            transaction.put_checkpoint(&reported)
        })
        .await
        .unwrap();
    let status = node.get("/api/sync/status").await.good();
    assert_eq!(status["checkpoint"]["blockNum"], at(199).get());
    assert_eq!(status["verification"]["verifiedHeight"], at(99).get());
}

#[tokio::test]
async fn a_node_without_a_state_answers_every_call() {
    let node = Fixture::empty();
    let status = node.get("/api/sync/status").await.good();
    assert_eq!(status["lastSyncBlock"], 0);
    assert!(status.get("head").is_none());
    assert_eq!(
        node.get("/api/query/head").await.good(),
        json!({"head": 0, "fork": "main"})
    );
    assert_eq!(node.get("/api/sync/anchors").await.good(), json!({"anchors": []}));
    assert_eq!(
        node.get("/api/checkpoints").await.good(),
        json!({"checkpoints": []})
    );
    assert_eq!(
        node.get("/api/sync/capabilities").await.good()["base"],
        json!(null)
    );
    assert_eq!(
        node.get("/api/query/state/stats").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        node.get("/api/sync/blocks?from=1&to=2").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        node.post("/api/sync/sync-from/1", &json!({})).await.good()["message"],
        "No gaps detected"
    );
    assert_eq!(
        node.get("/api/sync/gaps?from=1&to=3").await.good()["totalMissing"],
        3
    );
    // Nothing is wanted yet.
    let gaps = node.get("/api/sync/gaps").await.good();
    assert_eq!((&gaps["gaps"], &gaps["totalMissing"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn gaps_are_those_of_the_range_asked_for() {
    let node = Fixture::new();
    let (head, beyond) = (at(HEAD).get(), at(HEAD).get() + 10);
    assert_eq!(node.get("/api/sync/gaps").await.good()["gaps"], json!([]));
    let gaps = node
        .get(&format!("/api/sync/gaps?from={head}&to={beyond}"))
        .await
        .good();
    assert_eq!(
        gaps,
        json!({"fromBlock": head, "toBlock": beyond, "totalMissing": 10,
            "gaps": [{"start": head + 1, "end": beyond, "size": 10}]})
    );
}

#[tokio::test]
async fn peers_that_answer_are_listed() {
    let node = Fixture::new();
    // Not those that are banned, although they answer: they lied.
    let alive = json!({"id": "alive", "url": "http://alive.example:3030"});
    let itself = json!({"id": "node-under-test", "url": "http://here.example:3030"});
    assert_eq!(node.get("/api/sync/peers").await.good(), json!([alive]));
    assert_eq!(
        node.get("/api/honeygraph-peers").await.good(),
        json!([itself, alive])
    );
}

#[tokio::test]
async fn peers_are_registered_and_discovered() {
    let node = Fixture::new();
    let body = json!({"peerId": "new", "url": "https://new.example/"});
    assert_eq!(
        node.post("/api/sync/peers", &body).await.good(),
        json!({"success": true, "peerId": "new"})
    );
    let nodes = json!({"nodes": [{"id": "h", "url": "http://h.example"}]});
    assert_eq!(
        node.post("/api/sync/discover", &nodes).await.good(),
        json!({"success": true, "totalPeers": 2})
    );
    assert_eq!(
        node.sync.asked(),
        ["register new https://new.example", "discover 1"]
    );
    *node.sync.refuses.lock().unwrap() = Some(RegisterError::Full(7));
    let error = node
        .post("/api/sync/peers", &body)
        .await
        .error(StatusCode::CONFLICT);
    assert!(error.contains("full at 7"), "{error}");
}

#[tokio::test]
async fn gaps_are_filled_on_demand() {
    let node = Fixture::new();
    // Overlapping gaps are one.
    let gaps = json!({"gaps": [{"start": 5, "end": 9}, {"start": 7, "end": 12, "size": 1}, {"start": 20, "end": 20}]});
    let done = node.post("/api/sync/sync-gaps", &gaps).await.good();
    assert_eq!(
        done,
        json!({"success": true, "results": {"totalGaps": 0, "syncedBlocks": 0, "failedBlocks": 0, "peers": {}}})
    );
    assert_eq!(node.sync.asked(), ["sync 2"]);
    *node.sync.is_running.lock().unwrap() = true;
    let refused = node.post("/api/sync/sync-gaps", &gaps).await.good();
    assert_eq!(refused, json!({"success": false, "reason": "sync_in_progress"}));
    let nothing = node
        .post(&format!("/api/sync/sync-from/{}", at(3)), &json!({}))
        .await
        .good();
    assert_eq!(nothing, json!({"success": true, "message": "No gaps detected"}));
}

#[tokio::test]
async fn consensus_is_what_the_voters_say() {
    let node = Fixture::new();
    for (why, agreement) in [
        (NoConsensus::Undecided, "undecided"),
        (NoConsensus::Conflict, "conflict"),
    ] {
        *node.sync.consensus.lock().unwrap() = Ok(Err(why));
        let answer = node.get("/api/sync/consensus/7").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(
            answer.json(),
            json!({"error": "No consensus found", "blockNum": 7, "agreement": agreement})
        );
    }
    let block_hash = chain().blocks[0].block.hash();
    *node.sync.consensus.lock().unwrap() = Ok(Ok(ConsensusFound {
        block_hash,
        voters: vec!["one".to_owned()],
        confidence: 0.75,
    }));
    assert_eq!(
        node.get("/api/sync/consensus/7").await.good(),
        json!({"blockNum": 7, "consensus": {"blockHash": block_hash.to_string(), "peers": ["one"], "confidence": 0.75}})
    );
    *node.sync.consensus.lock().unwrap() = Err(NotAsked::Busy);
    let answer = node.get("/api/sync/consensus/7").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn capabilities_say_what_is_here() {
    let capabilities = Fixture::new().get("/api/sync/capabilities").await.good();
    assert_eq!(capabilities["network"], "spkcc");
    assert_eq!(capabilities["peerId"], "node-under-test");
    assert_eq!(capabilities["base"], at(0).get());
    assert_eq!(capabilities["head"], at(HEAD).get());
    assert_eq!(capabilities["lib"], at(FINAL).get());
    assert_eq!(
        capabilities["batch"],
        json!({"maxBlocks": 512, "cutBytes": 4_194_304})
    );
}

#[tokio::test]
async fn anchors_and_hashes_are_those_of_the_chain() {
    let node = Fixture::new();
    let anchors = node.get("/api/sync/anchors").await.good();
    let anchors = anchors["anchors"].as_array().unwrap();
    assert_eq!(anchors.len(), 3);
    let expected = &chain().checkpoints[1];
    assert_eq!(
        anchors[1],
        json!({"blockNum": at(199).get(), "blockHash": chain().blocks[199].block.hash().to_string(),
            "stateHash": expected.cid.to_string(), "stateDigest": expected.state_digest.to_string(),
            "agreement": "agreed"})
    );
    assert_eq!(anchors[2]["agreement"], "undecided");
    let some = node
        .get(&format!("/api/sync/anchors?from={}&to={}", at(100), at(200)))
        .await
        .good();
    assert_eq!(some["anchors"].as_array().unwrap().len(), 1);
    for (place, is_finalized) in [(FINAL, true), (FINAL + 1, false)] {
        let block = &chain().blocks[place].block;
        assert_eq!(
            node.get(&format!("/api/sync/hash/{}", block.number()))
                .await
                .good(),
            json!({"blockNum": block.number(), "blockHash": block.hash().to_string(),
                "previousHash": block.previous_hash().to_string(), "isFinalized": is_finalized})
        );
    }
}

#[tokio::test]
async fn a_full_block_tells_what_stood_before() {
    let node = Fixture::new();
    for place in [0, FINAL, FINAL + 1, HEAD] {
        let block = &chain().blocks[place].block;
        let full = node
            .get(&format!("/api/query/block/{}/full", block.number()))
            .await
            .good();
        assert_eq!(full["blockHash"], block.hash().to_string());
        assert_eq!(full["previousHash"], block.previous_hash().to_string());
        assert_eq!(full["isFinalized"], place <= FINAL);
        assert_eq!(full["forkId"], "main");
        assert_eq!(full["timestamp"], "2018-12-14T12:00:00.000Z");
        assert_eq!(full["peerId"], "node-under-test");
        let operations = full["operations"].as_array().unwrap();
        assert_eq!(operations.len(), block.block().operations.as_slice().len());
        let known = operations
            .iter()
            .filter(|operation| operation.get("previousValue").is_some())
            .count();
        assert_eq!(known > 0, place > FINAL, "block at {place}: {known}");
        assert!(operations.iter().all(|operation| operation["reverted"] == false));
    }
}

#[tokio::test]
async fn a_block_of_a_fork_is_shown_as_reverted() {
    let node = Fixture::new();
    let (first, tip) = (&node.fork[0], &node.fork[2]);
    let ask = |number: BlockNumber| format!("/api/query/block/{number}/full?fork={}", tip.hash());
    let full = node.get(&ask(first.number())).await.good();
    assert_eq!(full["blockHash"], first.hash().to_string());
    assert_eq!(full["forkId"], tip.hash().to_string());
    assert_eq!(full["operations"][0]["reverted"], true);
    assert_eq!(full["isFinalized"], false);
    // Below its first block a fork is the canonical chain.
    let shared = node.get(&ask(at(FORKED_AT))).await.good();
    assert_eq!(
        shared["blockHash"],
        chain().blocks[FORKED_AT].block.hash().to_string()
    );
    assert_eq!(shared["forkId"], "main");
    let head = node
        .get(&format!("/api/query/head?fork={}", tip.hash()))
        .await
        .good();
    assert_eq!(
        head,
        json!({"head": tip.number(), "fork": tip.hash().to_string()})
    );
    let missing = node.get(&ask(at(HEAD))).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(
        missing.json(),
        json!({"error": "Block not found", "blockNum": at(HEAD), "fork": tip.hash().to_string()})
    );
}

#[tokio::test]
async fn head_and_openapi() {
    let node = Fixture::new();
    assert_eq!(
        node.get("/api/query/head").await.good(),
        json!({"head": at(HEAD), "fork": "main"})
    );
    assert!(node.get("/openapi.json").await.good()["paths"].is_object());
}

/// What stands at a path, counted in a state document of the vectors.
fn leaves(value: &JsonValue) -> usize {
    match value {
        JsonValue::Object(members) => members.iter().map(|(_, member)| leaves(member)).sum(),
        _ => 1,
    }
}

#[tokio::test]
async fn state_is_read_by_path() {
    let node = Fixture::new();
    // The genesis and the blocks after it are applied by the rules, whose result the digest proves.
    let all = node.get("/api/query/state/balances?limit=10000").await.good();
    assert_eq!(all["blockNum"], at(HEAD).get());
    assert_eq!(all["blockHash"], chain().blocks[HEAD].block.hash().to_string());
    assert_eq!(all["truncated"], false);
    assert_eq!(all["path"], "balances");
    let data: JsonValue = serde_json::from_value(all["data"].clone()).unwrap();
    let count = leaves(&data);
    assert!(count > 10, "{count}");
    let (name, value) = all["data"].as_object().unwrap().iter().next().unwrap();
    let leaf = node
        .get(&format!("/api/query/state/balances/{name}"))
        .await
        .good();
    assert_eq!(&leaf["data"], value);

    let some = node.get("/api/query/state/balances?limit=3").await.good();
    assert_eq!(some["truncated"], true);
    let data: JsonValue = serde_json::from_value(some["data"].clone()).unwrap();
    assert_eq!(leaves(&data), 3);

    let error = node
        .get("/api/query/state/balances/no%2Fbody")
        .await
        .error(StatusCode::NOT_FOUND);
    assert!(error.contains(r#"["balances","no/body"]"#), "{error}");
    // A name that begins like another is not below it.
    assert_eq!(
        node.get("/api/query/state/balance").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn every_answer_of_the_log_says_at_which_block_it_is_true() {
    let node = Fixture::new();
    let (height, hash) = (
        at(HEAD).to_string(),
        chain().blocks[HEAD].block.hash().to_string(),
    );
    for path in [
        "/api/query/head".to_owned(),
        "/api/query/head?fork=nowhere".to_owned(),
        format!("/api/query/block/{}/full", at(3)),
        format!("/api/query/block/{}/full", at(HEAD + 1)),
        "/api/query/state/stats".to_owned(),
        "/api/query/state/nothing".to_owned(),
    ] {
        let answer = node.get(&path).await;
        assert_eq!(answer.header("honeygraph-block"), height, "{path}");
        assert_eq!(answer.header("honeygraph-hash"), hash, "{path}");
    }
    // Before there is a state, nothing is true at any block.
    let answer = Fixture::empty().get("/api/query/head").await;
    answer.good();
    assert_eq!(answer.header("honeygraph-block"), "");
    // What cannot be is wrong at every block.
    let answer = node.get("/api/query/block/x/full").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.header("honeygraph-block"), "");
}
