//! Blocks in the batch wire: content, compression, entity tags, caches.

use bytes::Buf;

use super::*;
use crate::wire::batch::{BATCH_CONTENT_TYPE, BatchDecoder, WireBlock};

fn path(places: std::ops::RangeInclusive<usize>) -> String {
    format!(
        "/api/sync/blocks?from={}&to={}",
        at(*places.start()),
        at(*places.end())
    )
}

fn get(path: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let request = request(Method::GET, path, None);
    headers.iter().fold(request, |request, (name, value)| {
        with_header(request, name, value)
    })
}

fn assert_blocks(places: std::ops::RangeInclusive<usize>, body: &[u8]) {
    let range = BlockRange::new(at(*places.start()), at(*places.end())).unwrap();
    let blocks = decode(range, body);
    let expected = &chain().blocks[places];
    assert_eq!(blocks.len(), expected.len());
    for (block, expected) in blocks.iter().zip(expected) {
        assert_eq!(block.number, expected.block.number());
        assert_eq!(block.bytes, expected.block.bytes());
    }
}

fn decode(range: BlockRange, body: &[u8]) -> Vec<WireBlock> {
    let mut decoder = BatchDecoder::new("spkcc".parse().unwrap(), range).unwrap();
    let mut blocks = Vec::new();
    decoder.push(body, &mut blocks).unwrap();
    decoder.finish().unwrap();
    blocks
}

#[tokio::test]
async fn a_range_is_sent_plain_or_compressed() {
    let node = Fixture::new();
    let plain = send(node.public(), get(&path(0..=149), &[])).await;
    assert_eq!(plain.status, StatusCode::OK);
    assert_eq!(plain.header("content-type"), BATCH_CONTENT_TYPE);
    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(plain.header("content-length"), plain.body.len().to_string());
    assert_eq!(plain.header("vary"), "accept-encoding");
    assert_blocks(0..=149, &plain.body);

    let compressed = send(
        node.public(),
        get(&path(0..=149), &[("accept-encoding", "gzip, zstd")]),
    )
    .await;
    assert_eq!(compressed.header("content-encoding"), "zstd");
    assert!(compressed.body.len() < plain.body.len());
    assert_eq!(zstd::decode_all(compressed.body.reader()).unwrap(), plain.body);
    assert_ne!(compressed.headers["etag"], plain.headers["etag"]);
}

#[tokio::test]
async fn final_ranges_never_change_and_others_may() {
    let node = Fixture::new();
    let fixed = send(node.public(), get(&path(100..=FINAL), &[])).await;
    assert!(fixed.header("cache-control").contains("immutable"));
    let etag = fixed.header("etag").to_owned();
    assert!(etag.starts_with('"'), "{etag}");
    for known in [etag.clone(), format!("\"other\", {etag}"), "*".to_owned()] {
        let again = send(
            node.public(),
            get(&path(100..=FINAL), &[("if-none-match", &known)]),
        )
        .await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{known}");
        assert!(again.body.is_empty());
        assert_eq!(again.header("etag"), etag);
    }
    let other = send(
        node.public(),
        get(&path(100..=FINAL), &[("if-none-match", "\"other\"")]),
    )
    .await;
    assert_eq!(other.status, StatusCode::OK);
    assert_eq!(other.body, fixed.body);

    let open = send(
        node.public(),
        get(&path(100..=FINAL + 1), &[("if-none-match", "*")]),
    )
    .await;
    assert_eq!(open.status, StatusCode::OK);
    assert_eq!(open.header("etag"), "");
    assert_eq!(open.header("cache-control"), "no-cache");
    assert_blocks(100..=FINAL + 1, &open.body);
}

#[tokio::test]
async fn the_first_block_that_is_not_here_is_named() {
    let node = Fixture::new();
    let answer = node.get(&path(HEAD - 3..=HEAD + 10)).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(
        answer.json(),
        serde_json::json!({"error": "Block not found", "blockNum": at(HEAD + 1)})
    );
}

/// Asserts how many ranges were read and encoded.
fn assert_encoded(node: &Fixture, times: u32) {
    let line = format!("honeygraph_batches_encoded_total {times}");
    let text = node.node.metrics.encode().unwrap();
    assert!(
        text.lines().any(|found| found == line),
        "{line} is not in\n{text}"
    );
}

#[tokio::test]
async fn a_range_that_is_not_all_here_is_read_once() {
    let node = Fixture::new();
    for places in [HEAD + 1..=HEAD + 9, HEAD + 2..=HEAD + 9] {
        node.get(&path(places)).await.error(StatusCode::NOT_FOUND);
    }
    assert_encoded(&node, 0);
    for _ in 0..2 {
        let answer = node.get(&path(HEAD - 3..=HEAD + 1)).await;
        assert_eq!(answer.json()["blockNum"], at(HEAD + 1).get());
    }
    assert_encoded(&node, 1);
    // What is missing is asked of the store each time: another block says nothing of this one.
    let range = BlockRange::single(at(HEAD - 1));
    node.replica
        .write(move |transaction| {
            transaction.remove_blocks(range);
            Ok(())
        })
        .await
        .unwrap();
    let answer = node.get(&path(HEAD - 3..=HEAD + 1)).await;
    assert_eq!(answer.json()["blockNum"], at(HEAD - 1).get());
}

#[tokio::test]
async fn one_range_is_encoded_once_for_all_who_ask() {
    let node = Fixture::new();
    let router = node.public();
    let answers =
        futures_util::future::join_all((0..16).map(|_| send(router.clone(), get(&path(0..=FINAL), &[]))))
            .await;
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    let encoded = |times: u32| assert_encoded(&node, times);
    encoded(1);
    send(router.clone(), get(&path(0..=FINAL), &[])).await;
    encoded(1);
    send(router, get(&path(0..=FINAL), &[("accept-encoding", "zstd")])).await;
    encoded(2);
}

#[tokio::test]
async fn what_was_cached_before_a_block_became_final_is_not_served_after() {
    let node = Fixture::new();
    let before = send(node.public(), get(&path(250..=299), &[])).await;
    assert_eq!(before.header("etag"), "");
    let anchor = node
        .store
        .view()
        .checkpoint(at(299))
        .unwrap()
        .unwrap()
        .anchor()
        .unwrap();
    for voter in ["voter", "other"] {
        node.replica
            .vote(VoterId(voter.to_owned()), vec![anchor])
            .await
            .unwrap();
    }
    let is_final = |status: &Arc<crate::replica::ReplicaStatus>| {
        status
            .position
            .as_ref()
            .and_then(crate::store::Position::irreversible_block)
            == Some(at(299))
    };
    node.replica.status().wait_for(is_final).await.unwrap();
    let after = send(node.public(), get(&path(250..=299), &[])).await;
    assert_eq!(after.body, before.body);
    assert!(after.header("cache-control").contains("immutable"));
}

#[tokio::test]
async fn a_rotten_block_is_not_served() {
    let node = Fixture::new();
    let number = at(5);
    node.replica
        .write(move |transaction| {
            let mut stored = crate::store::StoredBlock::new(&chain().blocks[5].block, 0);
            stored.bytes[10] ^= 1;
            transaction.put_block(number, &stored);
            Ok(())
        })
        .await
        .unwrap();
    let error = node
        .get(&path(0..=9))
        .await
        .error(StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!error.contains("bytes"), "what failed is for the log: {error}");
    // What does not touch the block is served still.
    assert_eq!(node.get(&path(6..=9)).await.status, StatusCode::OK);
}
