//! Checkpoints and their documents.

use serde_json::json;

use super::*;
use crate::store::CheckpointRecord;

#[tokio::test]
async fn checkpoints_are_listed() {
    let node = Fixture::new();
    let list = node.get("/api/checkpoints").await.good();
    let list = list["checkpoints"].as_array().unwrap();
    // The genesis and three of the chain.
    assert_eq!(list.len(), 4);
    assert_eq!(list[0]["stateHash"], chain().genesis.0.to_string());
    assert_eq!(list[0]["documentBytes"], chain().genesis.1.len());
    assert_eq!(list[1]["kind"], "delta");
    assert!(list[1].get("documentBytes").is_none());
    assert_eq!(list[3]["kind"], "state");
    assert_eq!(list[3]["documentBytes"], document_of(2).1.len());
    let some = node
        .get(&format!("/api/checkpoints?from={}&to={}", at(0), at(150)))
        .await
        .good();
    assert_eq!(some["checkpoints"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn documents_have_the_content_asked_for() {
    let node = Fixture::new();
    let mut documents: Vec<_> = (0..3).map(document_of).collect();
    documents.push(chain().genesis.clone());
    for (id, expected) in documents {
        let answer = node.get(&format!("/api/checkpoints/{id}")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body, expected, "document {id}");
        assert_eq!(ContentId::of(&answer.body), id);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("content-length"), expected.len().to_string());
        assert_eq!(answer.header("etag"), format!("\"{id}\""));
        assert!(answer.header("cache-control").contains("immutable"));
    }
}

#[tokio::test]
async fn a_download_can_be_resumed() {
    let node = Fixture::new();
    for (id, expected) in [document_of(0), document_of(2), chain().genesis.clone()] {
        let length = expected.len();
        let ask = |headers: &[(&'static str, String)]| {
            let request = request(Method::GET, &format!("/api/checkpoints/{id}"), None);
            let request = headers.iter().fold(request, |request, (name, value)| {
                with_header(request, name, value)
            });
            send(node.public(), request)
        };
        let middle = length / 2;
        for (range, part) in [
            (format!("bytes={middle}-"), middle..length),
            (format!("bytes=0-{}", middle - 1), 0..middle),
            ("bytes=-7".to_owned(), length - 7..length),
        ] {
            let answer = ask(&[("range", range)]).await;
            assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
            assert_eq!(answer.body, expected[part.clone()]);
            assert_eq!(
                answer.header("content-range"),
                format!("bytes {}-{}/{length}", part.start, part.end - 1)
            );
        }
        let outside = ask(&[("range", format!("bytes={length}-"))]).await;
        outside.error(StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(outside.header("content-range"), format!("bytes */{length}"));
        let whole = ask(&[
            ("range", "bytes=1-".to_owned()),
            ("if-range", "\"other\"".to_owned()),
        ])
        .await;
        assert_eq!((whole.status, whole.body.len()), (StatusCode::OK, length));
        let known = ask(&[("if-none-match", format!("\"{id}\""))]).await;
        assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));
    }
}

#[tokio::test]
async fn a_document_in_many_pieces_is_streamed_from_any_place() {
    let node = Fixture::new();
    let document: Vec<u8> = (0..700_000_u32)
        .map(|place| place.to_le_bytes()[0] ^ place.to_le_bytes()[1])
        .collect();
    let id = ContentId::of(&document);
    let stored = document.clone();
    let record = node.store.view().checkpoint(at(299)).unwrap().unwrap();
    node.replica
        .write(move |transaction| {
            transaction.put_checkpoint(&CheckpointRecord {
                state_hash: id,
                ..record
            })?;
            transaction.put_document(id, &stored);
            Ok(())
        })
        .await
        .unwrap();
    let path = format!("/api/checkpoints/{id}");
    assert_eq!(node.get(&path).await.body, document);
    for (first, last) in [
        (0, 0),
        (262_143, 262_144),
        (262_144, 524_287),
        (100, 699_999),
        (524_288, 524_288),
    ] {
        let request = with_header(
            request(Method::GET, &path, None),
            "range",
            &format!("bytes={first}-{last}"),
        );
        assert_eq!(
            send(node.public(), request).await.body,
            document[first..=last],
            "{first}-{last}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_computed_is_not_found() {
    let node = Fixture::new();
    let nothing = ContentId::of(b"nothing");
    let answer = node.get(&format!("/api/checkpoints/{nothing}")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json(), json!({"error": "Document not found"}));
    let range = BlockRange::single(at(150));
    node.replica
        .write(move |transaction| {
            transaction.remove_blocks(range);
            Ok(())
        })
        .await
        .unwrap();
    let (with_hole, _) = document_of(1);
    let error = node
        .get(&format!("/api/checkpoints/{with_hole}"))
        .await
        .error(StatusCode::NOT_FOUND);
    assert!(error.contains("blocks of its period"), "{error}");
    // That is remembered for a while, so that asking again reads nothing.
    let block = chain().blocks[150].block.clone();
    node.replica
        .write(move |transaction| {
            transaction.put_block(block.number(), &crate::store::StoredBlock::new(&block, 0));
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(
        node.get(&format!("/api/checkpoints/{with_hole}"))
            .await
            .error(StatusCode::NOT_FOUND),
        error
    );
    let (whole, expected) = document_of(0);
    assert_eq!(
        node.get(&format!("/api/checkpoints/{whole}")).await.body,
        expected
    );
}
