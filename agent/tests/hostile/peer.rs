//! A peer that follows a script: it speaks the protocol between nodes over a real socket, with one fault.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, StreamExt, stream};
use honeygraph_agent::wire::batch::{BATCH_CONTENT_TYPE, BatchEncoder, MAX_BATCH_BLOCKS};
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};
use honeygraph_honeycomb::reference_chain::ChainBlock;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fault::{CapabilitiesFault, Fault, OlderFault, spoil, with_operation};

/// Bytes that a bomb decompresses to.
const BOMB_BYTES: usize = 2 << 30;
/// Zeros in one frame of a bomb.
const BOMB_FRAME_BYTES: usize = 1 << 20;

/// How often each kind of call was asked.
pub(crate) type Asked = BTreeMap<&'static str, u64>;

/// A running scripted peer. Dropping it ends it.
pub(crate) struct ScriptedPeer {
    pub(crate) address: SocketAddr,
    asked: watch::Receiver<Asked>,
    task: JoinHandle<()>,
}

struct Script {
    fault: Fault,
    /// The blocks it serves, lowest first, without holes.
    blocks: Vec<Arc<ChainBlock>>,
    asked: watch::Sender<Asked>,
    /// Answers for blocks wait until this peer was asked for its anchors twice: then the votes of the first
    /// time are counted.
    after: Option<watch::Receiver<Asked>>,
}

impl ScriptedPeer {
    /// Serves these blocks with a fault. Where `after` is given, no block is served before that peer's anchors
    /// are known to who asks.
    pub(crate) async fn start(blocks: Vec<Arc<ChainBlock>>, fault: Fault, after: Option<&Self>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked_sender, asked) = watch::channel(Asked::new());
        let blocks = match fault {
            Fault::LeafOverSubtree(at) => leaf_over_subtree(blocks, at),
            _ => blocks,
        };
        let script = Arc::new(Script {
            fault,
            blocks,
            asked: asked_sender,
            after: after.map(|peer| peer.asked.clone()),
        });
        let router = Router::new()
            .route("/health", get(async || axum::Json(json!({"status": "ok"}))))
            .route("/api/sync/capabilities", get(capabilities))
            .route("/api/sync/status", get(status))
            .route("/api/sync/peers", get(peers))
            .route("/api/honeygraph-peers", get(peers))
            .route("/api/sync/blocks", get(blocks_of))
            .route("/api/sync/anchors", get(anchors))
            .route("/api/sync/hash/{block}", get(hash))
            .route("/api/checkpoints", get(checkpoints))
            .route("/api/checkpoints/{id}", get(document))
            .route("/ipfs/{id}", get(document))
            .route("/api/query/head", get(head))
            .route("/api/query/block/{block}/full", get(full_block))
            .layer(axum::middleware::from_fn_with_state(
                Arc::clone(&script),
                knows_call,
            ))
            .with_state(script);
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { address, asked, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether nobody has asked it anything.
    pub(crate) fn asked_nothing(&self) -> bool {
        self.asked.borrow().is_empty()
    }

    /// How often a call was asked.
    pub(crate) fn asked(&self, call: &str) -> u64 {
        self.asked.borrow().get(call).copied().unwrap_or_default()
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Script {
    fn first(&self) -> BlockNumber {
        self.blocks.first().unwrap().block.number()
    }

    fn last(&self) -> BlockNumber {
        self.blocks.last().unwrap().block.number()
    }

    fn block(&self, number: BlockNumber) -> Option<&Arc<ChainBlock>> {
        let place = number.get().checked_sub(self.first().get())?;
        self.blocks.get(usize::try_from(place).ok()?)
    }

    fn note(&self, call: &'static str) {
        self.asked
            .send_modify(|asked| *asked.entry(call).or_default() += 1);
    }

    /// The blocks of an answer, the fault inside one of them, as frames.
    fn frames(&self, range: BlockRange) -> Vec<Vec<u8>> {
        let network = "dlux".parse().unwrap();
        let mut encoder = BatchEncoder::new(&network, range).unwrap();
        while let Some(number) = encoder.next() {
            let Some(served) = self.block(number) else { break };
            let canonical = spoil(&self.fault, &served.block);
            encoder.push(number, None, &canonical).unwrap();
        }
        let bytes = encoder.finish();
        let mut frames = Vec::new();
        let mut rest = &bytes[..];
        while let Some((length, _)) = rest.split_first_chunk::<4>() {
            let (frame, after) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
            frames.push(frame.to_vec());
            rest = after;
        }
        frames
    }
}

/// What it does wrong in every call: an older peer knows those of the JavaScript honeygraph only.
async fn knows_call(State(script): State<Arc<Script>>, request: Request, next: Next) -> Response {
    let ours = [
        "/api/sync/capabilities",
        "/api/sync/blocks",
        "/api/sync/anchors",
        "/api/sync/hash/",
        "/api/checkpoints",
    ];
    let is_ours = ours.iter().any(|path| request.uri().path().starts_with(path));
    if matches!(script.fault, Fault::Older(_)) && is_ours {
        script.note("unknown");
        return (StatusCode::NOT_FOUND, "Cannot GET").into_response();
    }
    if script.fault == Fault::SilentInAll {
        script.note("unknown");
        return std::future::pending().await;
    }
    let answer = next.run(request).await;
    if script.fault != Fault::SlowInAll {
        return answer;
    }
    let (head, body) = answer.into_parts();
    let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Response::from_parts(head, dripping(whole))
}

/// A body that comes a byte every few milliseconds.
fn dripping(whole: impl IntoIterator<Item = u8, IntoIter: Send + 'static>) -> Body {
    Body::from_stream(stream::iter(whole).then(|byte| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, std::io::Error>(Bytes::from(vec![byte]))
    }))
}

async fn capabilities(State(script): State<Arc<Script>>) -> Response {
    script.note("capabilities");
    let mut said = json!({
        "protocol": 1,
        "network": "dlux",
        "peerId": format!("scripted-{:?}", script.fault).chars().filter(char::is_ascii_alphanumeric).take(40).collect::<String>(),
        "base": script.first(),
        "head": script.last(),
        "lib": null,
    });
    match &script.fault {
        Fault::Head(head) => said["head"] = head.clone(),
        Fault::Base(base) => said["base"] = json!(base),
        Fault::NoBlocks => said["base"] = json!(script.last()),
        Fault::OtherNetwork => said["network"] = json!("spkcc"),
        Fault::Capabilities(CapabilitiesFault::DeeplyNested) => {
            return format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_response();
        }
        Fault::Capabilities(CapabilitiesFault::Bomb) => {
            return compressed(bomb(
                br#"{"protocol":1,"network":"dlux","peerId":"bomb","version":""#,
                b' ',
            ));
        }
        Fault::Capabilities(CapabilitiesFault::NotUtf8) => {
            return vec![b'"', 0xFF, 0xFE, b'"'].into_response();
        }
        Fault::Capabilities(CapabilitiesFault::WrongType) => said = json!([said]),
        _ => {}
    }
    axum::Json(said).into_response()
}

async fn status(State(script): State<Arc<Script>>) -> Response {
    axum::Json(json!({"isSyncing": false, "lastSyncBlock": script.last(), "peers": []})).into_response()
}

async fn head(State(script): State<Arc<Script>>) -> Response {
    script.note("head");
    axum::Json(json!({"head": script.last(), "fork": "main"})).into_response()
}

async fn peers(State(script): State<Arc<Script>>) -> Response {
    script.note("peers");
    if let Fault::NoDocuments(known) = &script.fault {
        return axum::Json(json!([{"id": "known", "url": known}])).into_response();
    }
    let count = if script.fault == Fault::ManyPeers {
        10_000
    } else {
        0
    };
    let list: Vec<Value> = (0..count)
        .map(|at| {
            // Addresses that may not be dialled, names that do not exist, and what is no address at all.
            let url = match at % 4 {
                0 => format!("http://127.0.0.1:{}", 1 + at),
                1 => format!("http://10.0.{}.{}:3030", at / 256, at % 256),
                2 => format!("http://[::ffff:192.168.{}.{}]", at / 256, at % 256),
                _ => format!("not a url {at}"),
            };
            json!({"id": format!("peer-{at}"), "url": url})
        })
        .collect();
    axum::Json(list).into_response()
}

#[derive(serde::Deserialize)]
struct Range {
    from: BlockNumber,
    to: BlockNumber,
}

async fn blocks_of(State(script): State<Arc<Script>>, Query(Range { from, to }): Query<Range>) -> Response {
    let range = BlockRange::new(from, to).unwrap();
    assert!(range.len() <= MAX_BATCH_BLOCKS, "{range}");
    if let Some(mut voter) = script.after.clone() {
        let twice = |asked: &Asked| asked.get("anchors").is_some_and(|times| *times > 1);
        if voter.wait_for(twice).await.is_err() {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    }
    script.note("blocks");
    if !script.blocks.is_empty() && (from < script.first() || to > script.last()) {
        return (StatusCode::NOT_FOUND, axum::Json(json!({"error": "not here"}))).into_response();
    }
    match &script.fault {
        Fault::NoBlocks | Fault::ServerError => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Fault::RateLimited => {
            return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "3600")]).into_response();
        }
        Fault::Redirect(target) => {
            let target = HeaderValue::from_str(target).unwrap();
            return (StatusCode::FOUND, [(LOCATION, target)]).into_response();
        }
        Fault::NeverAnswers => return std::future::pending().await,
        Fault::Html => {
            return (
                [(CONTENT_TYPE, "text/html")],
                "<html><body>It works!</body></html>".repeat(1_000),
            )
                .into_response();
        }
        Fault::Bomb => return compressed(bomb(&script.frames(range)[0], 0)),
        Fault::LargeBlocks => {
            let start = script.frames(range).swap_remove(0);
            return large_blocks(start, from).into_response();
        }
        _ => {}
    }
    let mut frames = script.frames(range);
    match script.fault {
        Fault::StartFrameLate => frames.swap(0, 1),
        Fault::BlocksSwapped if frames.len() > 4 => frames.swap(1, 2),
        Fault::MissingEnd => {
            frames.pop();
        }
        Fault::WrongChecksum => *frames.last_mut().unwrap().last_mut().unwrap() ^= 1,
        Fault::WrongCount => frames.last_mut().unwrap()[5] ^= 1,
        Fault::HugeFrame => frames[1][0..4].copy_from_slice(&u32::MAX.to_be_bytes()),
        _ => {}
    }
    let mut whole = frames.concat();
    let answer = match script.fault {
        Fault::Truncated => {
            whole.truncate(whole.len() / 2);
            Body::from(whole)
        }
        Fault::ClosesEarly => {
            whole.truncate(whole.len() / 2);
            let pieces = [Ok(Bytes::from(whole)), Err(std::io::Error::other("gone"))];
            Body::from_stream(stream::iter(pieces))
        }
        Fault::Drip => dripping(whole),
        _ => Body::from(whole),
    };
    ([(CONTENT_TYPE, BATCH_CONTENT_TYPE)], answer).into_response()
}

async fn anchors(State(script): State<Arc<Script>>, Query(Range { from, to }): Query<Range>) -> Response {
    let inside = script
        .blocks
        .iter()
        .filter(|block| (from..=to).contains(&block.block.number()));
    let anchors: Vec<_> = inside
        .filter_map(|block| Some(block.checkpoint.as_ref()?.anchor))
        .map(|anchor| {
            json!({"blockNum": anchor.block_num, "blockHash": anchor.block_hash,
                "stateHash": anchor.state_hash, "stateDigest": anchor.state_digest, "agreement": "agreed"})
        })
        .collect();
    script.note("anchors");
    axum::Json(json!({"anchors": anchors})).into_response()
}

async fn hash(State(script): State<Arc<Script>>, Path(number): Path<BlockNumber>) -> Response {
    script.note("hash");
    match script.block(number) {
        Some(served) => axum::Json(json!({"blockNum": number, "blockHash": served.block.hash(),
            "previousHash": served.block.previous_hash(), "isFinalized": true}))
        .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn checkpoints(State(script): State<Arc<Script>>, Query(Range { from, to }): Query<Range>) -> Response {
    script.note("checkpoints");
    let genesis = script.blocks.first().map(|block| block.block.previous_hash());
    let (mut root, mut prev_root) = (genesis, None);
    let mut listed = Vec::new();
    for checkpoint in script.blocks.iter().filter_map(|block| block.checkpoint.as_ref()) {
        let anchor = checkpoint.anchor;
        if (from..=to).contains(&anchor.block_num) {
            let mut entry = json!({"blockNum": anchor.block_num, "kind": checkpoint.kind,
                "stateHash": anchor.state_hash, "blockHash": anchor.block_hash,
                "stateDigest": anchor.state_digest, "root": root, "prevRoot": prev_root});
            let false_id = json!(ContentId::of(b"somewhere else"));
            match script.fault {
                Fault::FalseCheckpoint(at) if at == anchor.block_num => entry["stateHash"] = false_id,
                Fault::FalseCheckpointBlock(at) if at == anchor.block_num => entry["blockHash"] = false_id,
                _ => {}
            }
            listed.push(entry);
        }
        if checkpoint.kind == CheckpointKind::State {
            (prev_root, root) = (root, Some(anchor.state_hash));
        }
    }
    axum::Json(json!({"checkpoints": listed})).into_response()
}

async fn document(State(script): State<Arc<Script>>, Path(id): Path<String>) -> Response {
    script.note("documents");
    if matches!(script.fault, Fault::NoDocuments(_)) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let checkpoints = script.blocks.iter().filter_map(|block| block.checkpoint.as_ref());
    match checkpoints
        .into_iter()
        .find(|checkpoint| checkpoint.anchor.state_hash.to_string() == id)
    {
        Some(checkpoint) => checkpoint.document.to_vec().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A block as the JavaScript honeygraph gives it: a hash of its own kind, the fields of its database.
async fn full_block(State(script): State<Arc<Script>>, Path(number): Path<BlockNumber>) -> Response {
    script.note("full");
    if script.fault == Fault::Older(OlderFault::LargeBlocks) {
        return large_block(number).into_response();
    }
    let Some(served) = script.block(number) else {
        let error = json!({"error": "Block not found", "blockNum": number, "fork": "main"});
        return (StatusCode::NOT_FOUND, axum::Json(error)).into_response();
    };
    let mut block = served.block.clone();
    let mut said = number;
    match script.fault {
        Fault::Older(OlderFault::OtherOperations(at)) if at == number => {
            block = with_operation(&block, &["balances", "thief"], json!(1_000_000));
        }
        Fault::Older(OlderFault::OtherNumber(at)) if at == number => said = number.next(),
        _ => {}
    }
    let first_index = served.first_index;
    let operations: Vec<_> = (first_index..)
        .zip(block.block().operations.as_slice())
        .map(|(index, operation)| {
            let kind = serde_json::to_value(operation.kind()).unwrap();
            let mut shape = json!({"index": index, "type": kind, "previousValue": null,
                "timestamp": "2024-01-01T00:00:00.000Z", "reverted": false});
            if let Some(path) = operation.path() {
                shape["path"] = json!(path.0.join("/"));
            }
            if let Some(data) = operation.data() {
                shape["data"] = serde_json::to_value(data).unwrap();
            }
            shape
        })
        .collect();
    axum::Json(
        json!({"blockNum": said, "blockHash": format!("{:064x}", number.get()), "previousHash": "0".repeat(64),
        "timestamp": "2024-01-01T00:00:00.000Z", "forkId": "main", "isFinalized": true,
        "operations": operations, "peerId": "javascript"}),
    )
    .into_response()
}

/// A body of some bytes, a mebibyte so many times, and other bytes: what sends it holds next to nothing of it.
fn long_body(start: Vec<u8>, mebibytes: usize, end: Vec<u8>) -> impl Stream<Item = Bytes> {
    static MEBIBYTE: [u8; 1 << 20] = [b'x'; 1 << 20];
    let long = stream::repeat_with(|| Bytes::from_static(&MEBIBYTE)).take(mebibytes);
    stream::iter([Bytes::from(start)])
        .chain(long)
        .chain(stream::iter([Bytes::from(end)]))
}

/// Two frames of blocks with 3 and 8 MiB, and then nothing, ever.
fn large_blocks(start: Vec<u8>, first: BlockNumber) -> Body {
    let frame = |number: BlockNumber, bytes: u32| {
        let mut head = (bytes + 10).to_be_bytes().to_vec();
        head.push(2);
        head.extend(number.get().to_be_bytes());
        head.push(0);
        head
    };
    let first_head = [start, frame(first, 3 << 20)].concat();
    let blocks =
        long_body(first_head, 3, frame(first.next(), 8 << 20)).chain(long_body(Vec::new(), 8, Vec::new()));
    Body::from_stream(blocks.chain(stream::pending()).map(Ok::<_, std::io::Error>))
}

/// A block in the JavaScript shape with a string of 15 MiB.
fn large_block(number: BlockNumber) -> Body {
    let start = format!(
        r#"{{"blockNum":{number},"blockHash":"{:064x}","operations":[{{"index":0,"type":"put","path":"stats/x","data":""#,
        number.get()
    );
    let end = r#""},{"index":1,"type":"write_marker"}]}"#;
    let body = long_body(start.into_bytes(), 15, end.as_bytes().to_vec());
    Body::from_stream(body.map(Ok::<_, std::io::Error>))
}

/// A chain that has a leaf over a subtree in a block, linked to the end of its period.
fn leaf_over_subtree(mut blocks: Vec<Arc<ChainBlock>>, at: BlockNumber) -> Vec<Arc<ChainBlock>> {
    let place = blocks
        .iter()
        .position(|block| block.block.number() == at)
        .unwrap();
    let mut previous = None;
    for served in &mut blocks[place..] {
        let changed = Arc::make_mut(served);
        changed.block = match previous {
            None => with_operation(&changed.block, &["balances"], json!(1)),
            Some(hash) => changed.block.clone().relinked(hash),
        };
        previous = Some(changed.block.hash());
        if changed.checkpoint.is_some() {
            break;
        }
    }
    blocks
}

/// A zstd stream that starts with some bytes and goes on with one byte for gigabytes.
pub(crate) fn bomb(start: &[u8], byte: u8) -> Vec<u8> {
    let mut whole = zstd::bulk::compress(start, 1).unwrap();
    let frame = zstd::bulk::compress(&vec![byte; BOMB_FRAME_BYTES], 1).unwrap();
    for _ in 0..BOMB_BYTES / BOMB_FRAME_BYTES {
        whole.write_all(&frame).unwrap();
    }
    whole
}

fn compressed(body: Vec<u8>) -> Response {
    ([(CONTENT_ENCODING, "zstd")], body).into_response()
}
