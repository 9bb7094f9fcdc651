//! Calls every router without sockets, on a replica of the published chain.

mod access;
mod admin;
mod batches;
mod calls;
mod documents;
mod dql;
mod limits;
mod probes;
mod refusals;
mod schema;
mod sockets;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::peer::{CircuitState, PeerId, Standing};
use honeygraph_chain::quorum::{VoterId, Voters};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId, JsonValue, Operation, Operations, Path};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt;

use super::{ApiSettings, DgraphView, Node, SyncControl};
use crate::config::LimitConfig;
use crate::ingest::{LastIndex, SourceCursor, SourceEvent, SourceEventKind};
use crate::metrics::{Metrics, NodeCollector};
use crate::peers::{PeerSource, PeerUrl};
use crate::replica::{Replica, ReplicaHandle, ReplicaSettings};
use crate::store::Store;
use crate::sync::{ConsensusFound, NoConsensus, NotAsked, PeerSummary, RegisterError, SyncGone, SyncView};
use crate::test_chain::{Home, at, chain, settings};
use crate::wire::shapes::{PeerEntry, SyncGapsAnswer, SyncMode, SyncResults, VerificationPolicy};

pub(super) const KEY: &str = "a-key-of-a-test-node";
pub(super) const TOKEN: &str = "an-admin-token-of-a-test";

/// Places of the chain up to which a fixture has blocks, and up to which they are final.
pub(super) const HEAD: usize = 349;
pub(super) const FINAL: usize = 199;
/// Where its fork begins: the last block that it shares.
const FORKED_AT: usize = 340;

/// Stands in for the sync engine: notes what it is asked and gives prepared answers.
pub(super) struct FakeSync {
    view: watch::Sender<Arc<SyncView>>,
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) consensus: Mutex<Result<Result<ConsensusFound, NoConsensus>, NotAsked>>,
    pub(super) never_answers: Mutex<bool>,
    pub(super) is_running: Mutex<bool>,
    pub(super) refuses: Mutex<Option<RegisterError>>,
}

impl FakeSync {
    fn new() -> Self {
        let banned = PeerSummary {
            standing: Standing::Banned {
                until: Duration::from_hours(500_000),
            },
            ..peer_summary("banned", true)
        };
        let peers = vec![peer_summary("alive", true), peer_summary("silent", false), banned];
        let view = SyncView {
            mode: Some(SyncMode::Follow),
            peers,
            gaps_detected: 3,
            ..SyncView::default()
        };
        Self {
            view: watch::Sender::new(Arc::new(view)),
            asked: Mutex::default(),
            consensus: Mutex::new(Ok(Err(NoConsensus::Undecided))),
            never_answers: Mutex::default(),
            is_running: Mutex::default(),
            refuses: Mutex::default(),
        }
    }

    fn note(&self, call: String) {
        self.asked.lock().unwrap().push(call);
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn peer_summary(name: &str, is_alive: bool) -> PeerSummary {
    PeerSummary {
        id: name.parse().unwrap(),
        url: format!("http://{name}.example:3030").parse().unwrap(),
        source: if is_alive {
            PeerSource::Configured
        } else {
            PeerSource::Registered
        },
        is_alive,
        score: 1.5,
        reliability: 0.75,
        standing: Standing::Good,
        circuit: CircuitState::Closed,
        last_seen_ms: Some(1_700_000_000_000),
        available: None,
        in_flight: 0,
    }
}

impl SyncControl for FakeSync {
    fn view(&self) -> watch::Receiver<Arc<SyncView>> {
        self.view.subscribe()
    }

    fn register(&self, id: PeerId, url: PeerUrl) -> BoxFuture<'_, Result<(), RegisterError>> {
        self.note(format!("register {id} {url}"));
        let refusal = self.refuses.lock().unwrap().clone();
        async move { refusal.map_or(Ok(()), Err) }.boxed()
    }

    fn discover(&self, nodes: Vec<PeerEntry>) -> BoxFuture<'_, Result<usize, SyncGone>> {
        self.note(format!("discover {}", nodes.len()));
        async { Ok(2) }.boxed()
    }

    fn sync_gaps(&self, only: Option<Vec<BlockRange>>) -> BoxFuture<'_, Result<SyncGapsAnswer, SyncGone>> {
        self.note(format!("sync {}", only.map_or(0, |ranges| ranges.len())));
        let running = *self.is_running.lock().unwrap();
        async move {
            Ok(if running {
                SyncGapsAnswer::in_progress()
            } else {
                SyncGapsAnswer::done(SyncResults::default())
            })
        }
        .boxed()
    }

    fn consensus(
        &self,
        block: BlockNumber,
    ) -> BoxFuture<'_, Result<Result<ConsensusFound, NoConsensus>, NotAsked>> {
        self.note(format!("consensus {block}"));
        if *self.never_answers.lock().unwrap() {
            return std::future::pending().boxed();
        }
        let found = self.consensus.lock().unwrap().clone();
        async move { found }.boxed()
    }
}

/// A node on the first 350 blocks of the published chain, 200 of them final, with a fork of three blocks.
pub(super) struct Fixture {
    _home: Home,
    pub(super) node: Arc<Node>,
    pub(super) sync: Arc<FakeSync>,
    pub(super) store: Store,
    pub(super) replica: ReplicaHandle,
    pub(super) fork: Vec<HashedBlock>,
}

/// Settings that limit nothing a test does by accident.
pub(super) fn api_settings() -> ApiSettings {
    let many = NonZeroU32::new(1_000_000).unwrap();
    ApiSettings {
        network: "spkcc".parse().unwrap(),
        peer_id: "node-under-test".parse().unwrap(),
        advertise_url: Some("http://here.example:3030".parse().unwrap()),
        verification: VerificationPolicy::Strict,
        api_keys: Vec::new(),
        trusted_proxies: Vec::new(),
        admin_token: Some(TOKEN.parse().unwrap()),
        limits: LimitConfig {
            body_bytes: 64 << 10,
            rate_per_address: many,
            rate_per_peer: many,
            concurrent_requests: 64,
            request_timeout: Duration::from_secs(30),
            ingest_connections: 1,
            ingest_message_bytes: 1_024,
        },
        cache_bytes: 16 << 20,
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(api_settings())
    }

    pub(super) fn with(api: ApiSettings) -> Self {
        Self::beside(api, None)
    }

    /// A node with a Dgraph.
    pub(super) fn beside(api: ApiSettings, dgraph: Option<DgraphView>) -> Self {
        let home = Home::new();
        let voters = Voters::new([(VoterId("voter".to_owned()), 1), (VoterId("other".to_owned()), 1)]);
        let mut replica = home.started(ReplicaSettings { voters, ..settings() });
        let fork = fill(&mut replica);
        Self::around(home, replica, fork, api, dgraph)
    }

    /// A node that was not started from a document yet.
    pub(super) fn empty() -> Self {
        let home = Home::new();
        let replica = home.open(settings());
        Self::around(home, replica, Vec::new(), api_settings(), None)
    }

    fn around(
        home: Home,
        replica: Replica,
        fork: Vec<HashedBlock>,
        api: ApiSettings,
        dgraph: Option<DgraphView>,
    ) -> Self {
        let store = replica.store().clone();
        let (outbox, _) = tokio::sync::mpsc::unbounded_channel();
        let (replica, _) = ReplicaHandle::spawn(replica, outbox);
        let sync = Arc::new(FakeSync::new());
        let collector = {
            let projection = dgraph.as_ref().map(|dgraph| dgraph.status.clone());
            NodeCollector::new(store.clone(), replica.status(), sync.view(), projection)
        };
        let metrics = Metrics::new();
        metrics.collect(collector);
        let control: Arc<dyn SyncControl> = Arc::clone(&sync) as Arc<dyn SyncControl>;
        let node = Node::new(api, store.clone(), replica.clone(), control, metrics, dgraph);
        Self {
            _home: home,
            node,
            sync,
            store,
            replica,
            fork,
        }
    }

    pub(super) fn public(&self) -> Router {
        super::public::router(Arc::clone(&self.node))
    }

    /// Asks the public API from loopback.
    pub(super) async fn get(&self, path: &str) -> Answer {
        send(self.public(), request(Method::GET, path, None)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.public(), request(Method::POST, path, Some(body))).await
    }
}

/// Gives a replica its blocks, its fork and its last irreversible block.
fn fill(replica: &mut Replica) -> Vec<HashedBlock> {
    let peer: PeerId = "a".parse().unwrap();
    replica.extend(&peer, &chain().blocks[..=HEAD]).unwrap();
    for (source, last) in [("one", HEAD), ("three", HEAD), ("two", FORKED_AT)] {
        for fetched in &chain().blocks[FORKED_AT - 5..=last] {
            hear(replica, source, fetched.block.block());
        }
    }
    let mut parent = chain().blocks[FORKED_AT].block.clone();
    let mut fork = Vec::new();
    for mark in 1..=3_u32 {
        let put = Operation::Put {
            path: Path::from_slashed("stats/mark"),
            data: JsonValue::Number(f64::from(mark)),
        };
        parent = HashedBlock::from(Block {
            number: parent.number().next(),
            previous_hash: parent.hash(),
            operations: Operations::new(vec![put, Operation::WriteMarker]).unwrap(),
        });
        hear(replica, "two", parent.block());
        fork.push(parent.clone());
    }
    let anchor = replica
        .store()
        .view()
        .checkpoint(at(FINAL))
        .unwrap()
        .unwrap()
        .anchor()
        .unwrap();
    for voter in ["voter", "other"] {
        replica.on_vote(VoterId(voter.to_owned()), anchor).unwrap();
    }
    let position = replica.position().unwrap();
    assert_eq!(
        (position.state_height, position.irreversible_block()),
        (at(HEAD), Some(at(FINAL)))
    );
    fork
}

fn hear(replica: &mut Replica, source: &str, block: &Block) {
    let event = SourceEventKind::Block {
        number: block.number,
        operations: block.operations.clone(),
        timestamp_ms: 1_544_788_800_000,
        cursor: SourceCursor {
            last_index: LastIndex(None),
            block: block.number,
        },
    };
    replica
        .on_source(
            SourceEvent {
                source: source.parse().unwrap(),
                event,
            },
            1_700_000_000,
        )
        .unwrap();
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer that must be good.
    pub(super) fn good(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }

    /// The text of an error that must have this status.
    pub(super) fn error(&self, status: StatusCode) -> String {
        assert_eq!(self.status, status, "{self:?}");
        self.json()["error"].as_str().unwrap().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(super) fn request(method: Method, path: &str, body: Option<&Value>) -> Request<Body> {
    from("127.0.0.1:50000", method, path, body)
}

pub(super) fn from(remote: &str, method: Method, path: &str, body: Option<&Value>) -> Request<Body> {
    let remote: SocketAddr = remote.parse().unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .extension(ConnectInfo(remote));
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    request.body(body).unwrap()
}

pub(super) fn with_header(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

pub(super) async fn send(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        headers: head.headers,
        body,
    }
}

/// The document of a checkpoint of the vectors.
pub(super) fn document_of(checkpoint: usize) -> (ContentId, Vec<u8>) {
    let checkpoint = &chain().checkpoints[checkpoint];
    (checkpoint.cid, checkpoint.document.to_canonical())
}
