use axum::http::header;
use axum::response::{IntoResponse, Response as AxumResponse};
use axum::routing::get;
use honeygraph_chain::peer::LocalFault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::wire::NetworkName;
use crate::wire::batch::{BATCH_CONTENT_TYPE, BatchEncoder, BatchExtent, MAX_BATCH_BLOCKS};

const BLOCKS: &str = "/api/sync/blocks";

fn network() -> NetworkName {
    "dlux".parse().unwrap()
}

fn encode(range: BlockRange, body_of: impl Fn(BlockNumber) -> Vec<u8>) -> Vec<u8> {
    let mut encoder = BatchEncoder::new(&network(), range).unwrap();
    while let Some(number) = encoder.next() {
        encoder.push(number, None, &body_of(number)).unwrap();
    }
    encoder.finish().to_vec()
}

fn ten() -> (BlockRange, Vec<u8>) {
    let asked = range(11, 20);
    (
        asked,
        encode(asked, |number| {
            vec![b'x'; 100 + usize::try_from(number.get()).unwrap()]
        }),
    )
}

async fn fetch_with(
    peer: &PeerUrl,
    network: &NetworkName,
    range: BlockRange,
    timeout: Duration,
) -> FetchedBatch {
    fetch_counted(peer, network, range, timeout).await.0
}

/// Gives also the bytes that arrived.
async fn fetch_counted(
    peer: &PeerUrl,
    network: &NetworkName,
    range: BlockRange,
    timeout: Duration,
) -> (FetchedBatch, u64) {
    let traffic = Traffic::default();
    let request = BatchRequest {
        network,
        range,
        timeout,
        byte_limit: u64::MAX,
        traffic: &traffic,
    };
    fetch_as(peer, request).await
}

async fn fetch_as(peer: &PeerUrl, request: BatchRequest<'_>) -> (FetchedBatch, u64) {
    let traffic = request.traffic;
    let batch = client(peer).blocks(peer, request).await;
    let blocks: usize = batch.blocks.iter().map(|block| block.bytes.len()).sum();
    assert!(traffic.blocks() >= blocks as u64);
    (batch, traffic.received())
}

async fn fetch(peer: &PeerUrl, range: BlockRange) -> FetchedBatch {
    fetch_with(peer, &network(), range, Duration::from_secs(20)).await
}

async fn fetch_from<A: IntoResponse + Send + 'static>(
    range: BlockRange,
    answer: impl Fn() -> A + Clone + Send + Sync + 'static,
) -> FetchedBatch {
    fetch_counted_from(range, answer).await.0
}

async fn fetch_counted_from<A: IntoResponse + Send + 'static>(
    range: BlockRange,
    answer: impl Fn() -> A + Clone + Send + Sync + 'static,
) -> (FetchedBatch, u64) {
    let route = get(move || async move { answer().into_response() as AxumResponse });
    let peer = serve(Router::new().route(BLOCKS, route)).await;
    fetch_counted(&peer, &network(), range, Duration::from_secs(20)).await
}

fn failed(fault: PeerFault) -> BatchOutcome {
    BatchOutcome::Failed(FetchError::Peer(fault))
}

#[tokio::test]
async fn a_range_comes_whole_plain_and_compressed() {
    let (asked, bytes) = ten();
    let whole = bytes.len() as u64;
    let compressed = zstd::bulk::compress(&bytes, 1).unwrap();
    let small = compressed.len() as u64;
    let (plain, plain_bytes) = fetch_counted_from(asked, move || bytes.clone()).await;
    let (packed, packed_bytes) = fetch_counted_from(asked, move || {
        (
            [
                (header::CONTENT_ENCODING, "zstd"),
                (header::CONTENT_TYPE, BATCH_CONTENT_TYPE),
            ],
            compressed.clone(),
        )
    })
    .await;
    for batch in [&plain, &packed] {
        assert_eq!(batch.outcome, BatchOutcome::Whole(BatchExtent::Complete));
        assert!(asked.iter().eq(batch.blocks.iter().map(|block| block.number)));
        assert!(batch.elapsed > Duration::ZERO);
    }
    assert_eq!((plain_bytes, packed_bytes), (whole, small));
    assert!(small < whole);
}

#[tokio::test]
async fn large_blocks_end_an_answer_early() {
    let asked = range(11, 20);
    let bytes = encode(asked, |_| vec![0; 3 << 20]);
    let batch = fetch_from(asked, move || bytes.clone()).await;
    assert_eq!(batch.outcome, BatchOutcome::Whole(BatchExtent::Cut));
    assert_eq!(batch.blocks.len(), 2);
}

#[tokio::test]
async fn what_came_before_a_missing_end_is_kept() {
    let (asked, bytes) = ten();
    let without_end = bytes[..bytes.len() - 17].to_vec();
    let batch = fetch_from(asked, move || without_end.clone()).await;
    assert_eq!(batch.outcome, failed(PeerFault::ShortAnswer));
    assert_eq!(batch.blocks.len(), 10);

    let inside_a_block = bytes[..bytes.len() / 2].to_vec();
    let batch = fetch_from(asked, move || inside_a_block.clone()).await;
    assert_eq!(batch.outcome, failed(PeerFault::ShortAnswer));
    assert!((1..10).contains(&batch.blocks.len()));
}

#[tokio::test]
async fn what_came_before_a_broken_connection_is_kept() {
    let (asked, bytes) = ten();
    let half = bytes[..bytes.len() / 2].to_vec();
    let peer = serve_raw(move |mut stream| {
        let half = half.clone();
        async move {
            let mut buffer = [0; 4_096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
                .await;
            let _ = stream.write_all(&half).await;
        }
    })
    .await;
    let (batch, received) = fetch_counted(&peer, &network(), asked, Duration::from_secs(20)).await;
    assert_eq!(batch.outcome, failed(PeerFault::Unreachable));
    assert!((1..10).contains(&batch.blocks.len()));
    assert!(received > 0);
}

#[tokio::test]
async fn what_came_before_a_stall_is_kept() {
    let (asked, bytes) = ten();
    let half = Bytes::from(bytes[..bytes.len() / 2].to_vec());
    let route = get(move || async move { stalling_body(vec![half]) });
    let peer = serve(Router::new().route(BLOCKS, route)).await;
    let batch = fetch_with(&peer, &network(), asked, Duration::from_millis(300)).await;
    assert_eq!(batch.outcome, failed(PeerFault::TimedOut));
    assert!((1..10).contains(&batch.blocks.len()));
}

#[tokio::test]
async fn damage_leaves_no_block_and_trailing_bytes_do() {
    let (asked, bytes) = ten();
    let mut damaged = bytes.clone();
    let content = damaged.len() - 20;
    damaged[content] ^= 1;
    let batch = fetch_from(asked, move || damaged.clone()).await;
    assert_eq!(batch.outcome, failed(PeerFault::Malformed));
    assert_eq!(batch.blocks, []);

    let more = [bytes.as_slice(), b"more"].concat();
    let batch = fetch_from(asked, move || more.clone()).await;
    assert_eq!(batch.outcome, failed(PeerFault::Malformed));
    assert_eq!(batch.blocks.len(), 10);
}

#[tokio::test]
async fn other_blocks_and_other_networks_are_refused() {
    let (asked, bytes) = ten();
    let answer = bytes.clone();
    let batch = fetch_from(range(12, 21), move || answer.clone()).await;
    assert_eq!(batch.outcome, failed(PeerFault::WrongNumber));
    let peer = serve(Router::new().route(BLOCKS, get(move || async move { bytes }))).await;
    let other = "spkcc".parse().unwrap();
    let batch = fetch_with(&peer, &other, asked, Duration::from_secs(20)).await;
    assert_eq!(batch.outcome, failed(PeerFault::Malformed));
}

#[tokio::test]
async fn oversized_answers_are_stopped() {
    let (asked, _) = ten();
    let huge_frame = fetch_from(asked, || endless_body(0xff)).await;
    assert_eq!(huge_frame.outcome, failed(PeerFault::TooLarge));
    let (declared, received) = fetch_counted_from(asked, || {
        ([(header::CONTENT_LENGTH, "1000000000000")], stalling_body(vec![]))
    })
    .await;
    assert_eq!(declared.outcome, failed(PeerFault::TooLarge));
    assert_eq!(received, 0);

    // A start frame, then one block that decompresses beyond what a block may have.
    let (_, bytes) = ten();
    let mut bomb = bytes[..4 + 1 + 2 + 1 + 4 + 16].to_vec();
    bomb.extend_from_slice(&(9_u32 << 20).to_be_bytes());
    bomb.extend_from_slice(&vec![0; 9 << 20]);
    let bomb = zstd::bulk::compress(&bomb, 1).unwrap();
    let batch = fetch_from(asked, move || {
        ([(header::CONTENT_ENCODING, "zstd")], bomb.clone())
    })
    .await;
    assert_eq!(batch.outcome, failed(PeerFault::TooLarge));
}

#[tokio::test]
async fn reading_stops_where_there_is_no_room_for_the_next_block() {
    let asked = range(11, 20);
    let network = network();
    let fetch_within = async |byte_limit: u64, sizes: [usize; 10]| {
        let size_of = move |number: BlockNumber| sizes[usize::try_from(number.get() - 11).unwrap()];
        let bytes = encode(asked, |number| vec![b'x'; size_of(number)]);
        // What is far beyond the limit never comes: it is not waited for.
        let sent = bytes.len().min(usize::try_from(byte_limit).unwrap() + (64 << 10));
        let is_whole = sent == bytes.len();
        let pieces: Vec<_> = bytes[..sent]
            .chunks(16 << 10)
            .map(Bytes::copy_from_slice)
            .collect();
        let route = get(move || async move {
            if is_whole {
                AxumBody::from_stream(pieces_of(pieces))
            } else {
                stalling_body(pieces)
            }
        });
        let peer = serve(Router::new().route(BLOCKS, route)).await;
        let request = BatchRequest {
            network: &network,
            range: asked,
            timeout: Duration::from_secs(20),
            byte_limit,
            traffic: &Traffic::default(),
        };
        fetch_as(&peer, request).await.0
    };
    let batch = fetch_within(1 << 20, [300 << 10; 10]).await;
    assert_eq!(batch.outcome, BatchOutcome::Stopped);
    assert_eq!(batch.blocks.len(), 3);
    // What fits to the byte is whole.
    let batch = fetch_within(3_000, [300; 10]).await;
    assert_eq!(batch.outcome, BatchOutcome::Whole(BatchExtent::Complete));
    // Nothing of a block alone that has no room, and that is nobody's fault.
    let mut large_first = [10; 10];
    large_first[0] = 3 << 20;
    let batch = fetch_within(1 << 20, large_first).await;
    let limit = 1 << 20;
    let too_low = FetchError::Local(LocalFault::LimitTooLow { limit });
    assert_eq!(batch.outcome, BatchOutcome::Failed(too_low));
    assert_eq!(fetch_within(4 << 20, large_first).await.blocks.len(), 10);
}

#[tokio::test]
async fn what_came_before_a_request_is_given_up_is_counted() {
    let (asked, bytes) = ten();
    let (half, whole) = (vec![Bytes::from(bytes[..bytes.len() / 2].to_vec())], bytes.len());
    let route = get(move || async move { stalling_body(half) });
    let peer = serve(Router::new().route(BLOCKS, route)).await;
    let (traffic, network) = (Traffic::default(), network());
    let request = BatchRequest {
        network: &network,
        range: asked,
        timeout: Duration::from_secs(20),
        byte_limit: u64::MAX,
        traffic: &traffic,
    };
    let client = client(&peer);
    let given_up = async {
        while traffic.received() < whole as u64 / 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = client.blocks(&peer, request) => panic!("a stalled answer ended"),
        () = given_up => {}
    }
    assert_eq!(traffic.received(), whole as u64 / 2);
    assert!(traffic.blocks() > 0);
}

#[tokio::test]
async fn an_older_peer_has_no_batches() {
    let peer = serve(Router::new()).await;
    let batch = fetch(&peer, range(1, 2)).await;
    assert_eq!(batch.outcome, failed(PeerFault::NotFound));
}

#[tokio::test]
async fn asking_for_too_much_is_our_fault() {
    let peer = serve(Router::new()).await;
    let batch = fetch(&peer, range(1, MAX_BATCH_BLOCKS + 1)).await;
    assert!(matches!(
        batch.outcome,
        BatchOutcome::Failed(FetchError::Local(_))
    ));
}
