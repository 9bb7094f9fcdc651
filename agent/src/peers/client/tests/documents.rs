use std::sync::Mutex;

use axum::http::{HeaderMap, StatusCode as Status, header};
use axum::response::{IntoResponse, Response as AxumResponse};
use axum::routing::get;
use honeygraph_chain::ContentId;
use tempfile::TempDir;

use super::*;

const ROUTE: &str = "/api/checkpoints/{id}";

/// Over one chunk of a content id's tree.
fn content() -> Vec<u8> {
    (0..600_000_u32)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

fn target(directory: &TempDir) -> DocumentTarget {
    DocumentTarget {
        path: directory.path().join("document"),
        max_bytes: 1 << 20,
    }
}

/// Serves a file with `Range: bytes=n-`, as a node does; notes the ranges asked for.
async fn serve_file(content: Vec<u8>) -> (PeerUrl, Arc<Mutex<Vec<Option<String>>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let answer = move |headers: HeaderMap| async move {
        let range = headers
            .get(header::RANGE)
            .map(|value| value.to_str().unwrap().to_owned());
        notes.lock().unwrap().push(range.clone());
        let start = range
            .as_deref()
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match start {
            None => content.into_response(),
            Some(start) if start < content.len() => {
                let span = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
                let rest = content[start..].to_vec();
                (Status::PARTIAL_CONTENT, [(header::CONTENT_RANGE, span)], rest).into_response()
            }
            Some(_) => Status::RANGE_NOT_SATISFIABLE.into_response(),
        }
    };
    let router = Router::new()
        .route(ROUTE, get(answer.clone()))
        .route("/ipfs/{id}", get(answer));
    (serve(router).await, asked)
}

async fn serve_answer(answer: impl Fn() -> AxumResponse + Clone + Send + Sync + 'static) -> PeerUrl {
    serve(Router::new().route(ROUTE, get(move || async move { answer() }))).await
}

fn failed<T>(fault: PeerFault) -> Result<T, FetchError> {
    Err(FetchError::Peer(fault))
}

fn files(directory: &TempDir) -> usize {
    directory.path().read_dir().unwrap().count()
}

#[tokio::test]
async fn a_document_comes_whole_from_peers_and_gateways() {
    let content = content();
    let id = ContentId::of(&content);
    let (peer, _) = serve_file(content.clone()).await;
    let client = client(&peer);
    let directory = TempDir::new().unwrap();
    let target = target(&directory);
    for gateway in [false, true] {
        let fetched = if gateway {
            client.ipfs_file(&peer, id, &target).await
        } else {
            client.document(&peer, id, &target).await
        };
        assert_eq!(fetched.unwrap().wire_bytes, content.len() as u64);
        assert_eq!(std::fs::read(&target.path).unwrap(), content);
        std::fs::remove_file(&target.path).unwrap();
        assert_eq!(files(&directory), 0);
    }
}

#[tokio::test]
async fn a_download_that_broke_off_is_resumed_elsewhere() {
    let content = content();
    let id = ContentId::of(&content);
    let directory = TempDir::new().unwrap();
    let target = target(&directory);

    let half = Bytes::from(content[..400_000].to_vec());
    let stalling = serve_answer(move || stalling_body(vec![half.clone()]).into_response()).await;
    let result = client_with(&stalling, short_timeouts())
        .document(&stalling, id, &target)
        .await;
    assert_eq!(result, failed(PeerFault::TimedOut));
    assert!(!target.path.exists());

    let (peer, asked) = serve_file(content.clone()).await;
    let fetched = client(&peer).document(&peer, id, &target).await.unwrap();
    assert_eq!((fetched.bytes, fetched.wire_bytes), (600_000, 200_000));
    assert_eq!(*asked.lock().unwrap(), [Some("bytes=400000-".to_owned())]);
    assert_eq!(std::fs::read(&target.path).unwrap(), content);
}

#[tokio::test]
async fn a_part_that_is_complete_already_needs_no_more_bytes() {
    let content = content();
    let directory = TempDir::new().unwrap();
    let target = target(&directory);
    std::fs::write(target.part(), &content).unwrap();
    let (peer, _) = serve_file(content.clone()).await;
    let fetched = client(&peer)
        .document(&peer, ContentId::of(&content), &target)
        .await
        .unwrap();
    assert_eq!(fetched.wire_bytes, 0);
    assert_eq!(std::fs::read(&target.path).unwrap(), content);
}

#[tokio::test]
async fn a_false_part_is_thrown_away_and_blames_nobody() {
    let content = content();
    let id = ContentId::of(&content);
    let (peer, asked) = serve_file(content.clone()).await;
    for length in [1_000, content.len(), 700_000, 2 << 20] {
        let directory = TempDir::new().unwrap();
        let target = target(&directory);
        std::fs::write(target.part(), vec![7; length]).unwrap();
        client(&peer).document(&peer, id, &target).await.unwrap();
        assert_eq!(std::fs::read(&target.path).unwrap(), content);
    }
    // The last part was beyond the limit and not worth a try.
    assert_eq!(asked.lock().unwrap().len(), 7);
}

#[tokio::test]
async fn a_peer_that_ignores_the_range_is_read_from_the_start() {
    let content = content();
    let id = ContentId::of(&content);
    let directory = TempDir::new().unwrap();
    let target = target(&directory);
    std::fs::write(target.part(), &content[..1_000]).unwrap();
    let answer = content.clone();
    let peer = serve_answer(move || answer.clone().into_response()).await;
    client(&peer).document(&peer, id, &target).await.unwrap();
    assert_eq!(std::fs::read(&target.path).unwrap(), content);
}

#[tokio::test]
async fn false_content_is_refused_and_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let target = target(&directory);
    let peer = serve_answer(|| "something else".into_response()).await;
    let result = client(&peer)
        .document(&peer, ContentId::of(b"this"), &target)
        .await;
    assert_eq!(result, failed(PeerFault::WrongHash));
    assert_eq!(files(&directory), 0);
}

#[tokio::test]
async fn documents_beyond_the_limit_are_stopped_and_leave_nothing() {
    let directory = TempDir::new().unwrap();
    let target = target(&directory);
    let id = ContentId::of(b"this");
    let endless = serve_answer(|| endless_body(0).into_response()).await;
    assert_eq!(
        client(&endless).document(&endless, id, &target).await,
        failed(PeerFault::TooLarge)
    );
    assert_eq!(files(&directory), 0);
}

#[tokio::test]
async fn answers_that_fit_no_download_are_refused() {
    let directory = TempDir::new().unwrap();
    let target = target(&directory);
    let id = ContentId::of(b"this");
    let encoded = serve_answer(|| ([(header::CONTENT_ENCODING, "zstd")], "x").into_response()).await;
    assert_eq!(
        client(&encoded).document(&encoded, id, &target).await,
        failed(PeerFault::Malformed)
    );
    std::fs::write(target.part(), b"th").unwrap();
    let other_place = serve_answer(|| {
        (
            Status::PARTIAL_CONTENT,
            [(header::CONTENT_RANGE, "bytes 1-3/4")],
            "his",
        )
            .into_response()
    })
    .await;
    assert_eq!(
        client(&other_place).document(&other_place, id, &target).await,
        failed(PeerFault::Malformed)
    );
    let missing = serve_answer(|| Status::NOT_FOUND.into_response()).await;
    assert_eq!(
        client(&missing).document(&missing, id, &target).await,
        failed(PeerFault::NotFound)
    );
    // None of them touched what was there.
    assert_eq!(std::fs::read(target.part()).unwrap(), b"th");
}

#[tokio::test]
async fn a_disk_that_fails_is_our_own_fault() {
    let directory = TempDir::new().unwrap();
    let target = DocumentTarget {
        path: directory.path().join("missing/document"),
        max_bytes: 10,
    };
    let (peer, _) = serve_file(b"this".to_vec()).await;
    let result = client(&peer)
        .document(&peer, ContentId::of(b"this"), &target)
        .await;
    assert!(matches!(result, Err(FetchError::Local(_))));
}
