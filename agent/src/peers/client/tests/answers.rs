use axum::Json;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode as Status, header};
use axum::response::IntoResponse;
use axum::routing::get;
use honeygraph_chain::{ContentId, Operations};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::wire::shapes::MAX_LISTED_PEERS;

const HEAD: &str = "/api/query/head";
const PEERS: &str = "/api/sync/peers";

fn peer_fault<T: std::fmt::Debug>(result: Result<T, FetchError>) -> PeerFault {
    match result {
        Err(FetchError::Peer(fault)) => fault,
        other => panic!("not a peer's fault: {other:?}"),
    }
}

async fn status_fault_of(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> PeerFault {
    let peer = serve(Router::new().route(HEAD, get(move || async move { answer.clone() }))).await;
    peer_fault(client(&peer).head(&peer).await)
}

#[tokio::test]
async fn a_javascript_node_is_read() {
    let router = Router::new()
        .route(HEAD, get(|| async { Json(json!({"head": 9, "fork": "main"})) }))
        .route(
            "/api/query/block/{number}/full",
            get(|headers: HeaderMap| async move {
                assert_eq!(headers["x-honeygraph-peer"], "tester");
                Json(json!({"blockNum": 7, "blockHash": "opaque", "operations": []}))
            }),
        );
    let peer = serve(router).await;
    let client = client(&peer);
    assert_eq!(client.capabilities(&peer).await.unwrap(), None);
    assert_eq!(client.head(&peer).await.unwrap().head, number(9));
    let block = client.block_by_number(&peer, number(7), None).await.unwrap();
    assert_eq!(block.operations, Operations::default());
    let other = client.block_by_number(&peer, number(8), None).await;
    assert_eq!(peer_fault(other), PeerFault::WrongNumber);
}

#[tokio::test]
async fn a_node_of_ours_is_read() {
    let hash = ContentId::of(b"x").to_string();
    let anchor =
        json!({"blockNum": 101, "blockHash": hash, "stateHash": hash, "stateDigest": "00".repeat(32)});
    let checkpoint = json!({"blockNum": 101, "kind": "delta", "stateHash": hash});
    let router = Router::new()
        .route(
            "/api/sync/capabilities",
            get(|| async { Json(json!({"protocol": 1, "network": "dlux", "peerId": "a", "head": 9})) }),
        )
        .route(
            "/api/sync/anchors",
            get(move |Query(query): Query<Value>| async move {
                assert_eq!(query, json!({"from": "100", "to": "200"}));
                Json(json!({"anchors": [anchor]}))
            }),
        )
        .route(
            "/api/checkpoints",
            get(move || async move { Json(json!({"checkpoints": [checkpoint, checkpoint]})) }),
        )
        .route(
            "/api/sync/hash/{number}",
            get(move || async move { Json(json!({"blockNum": 5, "blockHash": hash, "previousHash": hash})) }),
        );
    let peer = serve(router).await;
    let client = client(&peer);
    let capabilities = client.capabilities(&peer).await.unwrap().unwrap();
    assert_eq!(capabilities.head, Some(number(9)));
    assert_eq!(client.anchors(&peer, range(100, 200)).await.unwrap().len(), 1);
    let twice = client.checkpoints(&peer, range(100, 200)).await;
    assert_eq!(peer_fault(twice), PeerFault::Malformed);
    let elsewhere = client.checkpoints(&peer, range(102, 200)).await;
    assert_eq!(peer_fault(elsewhere), PeerFault::WrongNumber);
    assert_eq!(
        client.hash(&peer, number(5)).await.unwrap().block_hash,
        ContentId::of(b"x")
    );
    assert_eq!(
        peer_fault(client.hash(&peer, number(6)).await),
        PeerFault::WrongNumber
    );
}

#[tokio::test]
async fn a_list_of_ten_thousand_is_cut_and_a_larger_one_refused() {
    let list = |count: usize| {
        let entries: Vec<_> = (0..count)
            .map(|at| json!({"id": format!("peer-{at}"), "url": format!("http://peer-{at}.example:3030")}))
            .collect();
        Json(Value::from(entries))
    };
    let router = Router::new()
        .route(PEERS, get(move || async move { list(10_000) }))
        .route("/api/honeygraph-peers", get(move || async move { list(100_000) }));
    let peer = serve(router).await;
    let client = client(&peer);
    let peers = client.peers(&peer).await.unwrap();
    assert_eq!(peers.peers.len(), MAX_LISTED_PEERS);
    assert_eq!((peers.sent, peers.refused()), (10_000, 9_000));
    assert_eq!(
        peer_fault(client.honeygraph_peers(&peer).await),
        PeerFault::TooLarge
    );
}

#[tokio::test]
async fn ill_formed_entries_of_a_list_are_left_out() {
    let list = json!([
        {"id": "a", "url": "http://a.example"}, {"id": "", "url": "http://b.example"}, {"id": "c"},
        {"id": "d", "url": "file:///etc/passwd"}, {"id": "e", "url": null}, {"id": "a b", "url": "http://f.example"}
    ]);
    let peer = serve(Router::new().route(PEERS, get(move || async move { Json(list) }))).await;
    let peers = client(&peer).peers(&peer).await.unwrap();
    assert_eq!(peers.peers.len(), 1);
    assert_eq!(peers.refused(), 5);
}

#[tokio::test]
async fn content_that_is_not_the_shape_is_malformed() {
    for body in [
        b"<html>hello</html>".to_vec(),
        b"\xff\xfe{}".to_vec(),
        b"{\"head\": 9, \"fork\": \"\xff\"}".to_vec(),
        b"{\"head\": 9".to_vec(),
        b"{\"head\": true}".to_vec(),
        b"{\"head\": -1}".to_vec(),
        b"{\"head\": 9007199254740993}".to_vec(),
        [b"[".repeat(100_000), b"]".repeat(100_000)].concat(),
        Vec::new(),
    ] {
        assert_eq!(status_fault_of(body).await, PeerFault::Malformed);
    }
}

#[tokio::test]
async fn the_content_type_is_not_looked_at() {
    let answer = ([(header::CONTENT_TYPE, "text/html")], "{\"head\":9}");
    let peer = serve(Router::new().route(HEAD, get(move || async move { answer }))).await;
    assert_eq!(client(&peer).head(&peer).await.unwrap().head, number(9));
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let limited = (Status::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")]);
    assert_eq!(
        status_fault_of(limited).await,
        PeerFault::RateLimited {
            retry_after_seconds: 7
        }
    );
    let broken = status_fault_of(Status::SERVICE_UNAVAILABLE).await;
    assert_eq!(broken, PeerFault::ServerError { status: 503 });
    assert_eq!(status_fault_of(Status::NOT_FOUND).await, PeerFault::NotFound);
    let teapot = status_fault_of(Status::IM_A_TEAPOT).await;
    assert_eq!(teapot, PeerFault::UnexpectedStatus { status: 418 });
    let empty = status_fault_of(Status::NO_CONTENT).await;
    assert_eq!(empty, PeerFault::UnexpectedStatus { status: 204 });
}

#[tokio::test]
async fn compressed_bombs_are_stopped_at_the_limit() {
    let bomb = zstd::bulk::compress(&vec![b' '; 64 << 20], 1).unwrap();
    assert!(bomb.len() < 64 << 10);
    let peer = serve(Router::new().route(
        HEAD,
        get(move || async move { ([(header::CONTENT_ENCODING, "zstd")], bomb) }),
    ))
    .await;
    assert_eq!(peer_fault(client(&peer).head(&peer).await), PeerFault::TooLarge);
}

#[tokio::test]
async fn compressed_answers_are_read_and_broken_ones_refused() {
    let encoded = |coding: &'static str, body: Vec<u8>| ([(header::CONTENT_ENCODING, coding)], body);
    let good = zstd::bulk::compress(b"{\"head\":9}", 1).unwrap();
    let cut = good[..good.len() - 1].to_vec();
    let answer = encoded("zstd", good.clone());
    let peer = serve(Router::new().route(HEAD, get(move || async move { answer }))).await;
    assert_eq!(client(&peer).head(&peer).await.unwrap().head, number(9));
    assert_eq!(
        status_fault_of(encoded("zstd", cut)).await,
        PeerFault::ShortAnswer
    );
    let noise = encoded("zstd", b"no zstd at all".to_vec());
    assert_eq!(status_fault_of(noise).await, PeerFault::Malformed);
    assert_eq!(
        status_fault_of(encoded("gzip", good.clone())).await,
        PeerFault::Malformed
    );
    assert_eq!(
        status_fault_of(encoded("zstd, zstd", good)).await,
        PeerFault::Malformed
    );
}

#[tokio::test]
async fn answers_without_end_are_stopped_at_the_limit() {
    let router = Router::new()
        .route(HEAD, get(|| async { endless_body(b' ') }))
        .route(
            PEERS,
            get(|| async { ([(header::CONTENT_LENGTH, "1000000000000")], stalling_body(vec![])) }),
        );
    let peer = serve(router).await;
    assert_eq!(peer_fault(client(&peer).head(&peer).await), PeerFault::TooLarge);
    // Refused by what it says, without waiting for it.
    assert_eq!(peer_fault(client(&peer).peers(&peer).await), PeerFault::TooLarge);
}

#[tokio::test]
async fn compressed_bytes_are_counted_though_they_hold_nothing() {
    let mut skippable = b"\x50\x2a\x4d\x18".to_vec();
    skippable.extend_from_slice(&(64_u32 << 10).to_le_bytes());
    skippable.resize(8 + (64 << 10), 0);
    let frame = Bytes::from(skippable);
    let answer = move || async move {
        let frames = stream::repeat_with(move || Ok::<_, Infallible>(frame.clone()));
        (
            [(header::CONTENT_ENCODING, "zstd")],
            AxumBody::from_stream(frames),
        )
    };
    let peer = serve(Router::new().route(HEAD, get(answer))).await;
    assert_eq!(peer_fault(client(&peer).head(&peer).await), PeerFault::TooLarge);
}

#[tokio::test]
async fn a_peer_that_never_answers_times_out() {
    let mute = serve_raw(|mut stream| async move {
        let mut buffer = [0; 1_024];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let result = client_with(&mute, short_timeouts()).head(&mute).await;
    assert_eq!(peer_fault(result), PeerFault::TimedOut);

    let half = serve(Router::new().route(HEAD, get(|| async { stalling_body(vec!["{".into()]) }))).await;
    let result = client_with(&half, short_timeouts()).head(&half).await;
    assert_eq!(peer_fault(result), PeerFault::TimedOut);
}

#[tokio::test]
async fn a_peer_that_drips_times_out_though_it_never_stops() {
    let dripping = serve(Router::new().route(
        HEAD,
        get(|| async {
            AxumBody::from_stream(stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
            }))
        }),
    ))
    .await;
    let result = client_with(&dripping, short_timeouts()).head(&dripping).await;
    assert_eq!(peer_fault(result), PeerFault::TimedOut);
}

#[tokio::test]
async fn broken_connections_are_the_peers_doing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = url_of(listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(
        peer_fault(client(&closed).head(&closed).await),
        PeerFault::Unreachable
    );

    let truncating = serve_raw(|mut stream| async move {
        let mut buffer = [0; 4_096];
        let _ = stream.read(&mut buffer).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"head\":9}")
            .await;
    })
    .await;
    let result = client(&truncating).head(&truncating).await;
    assert_eq!(peer_fault(result), PeerFault::Unreachable);

    let gibberish = serve_raw(|mut stream| async move {
        let _ = stream.write_all(b"\x00\x01\x02 not HTTP\r\n\r\n").await;
    })
    .await;
    assert_eq!(
        peer_fault(client(&gibberish).head(&gibberish).await),
        PeerFault::Unreachable
    );
}
