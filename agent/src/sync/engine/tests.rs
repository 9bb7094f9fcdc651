//! The engine on a replica of the published chain, event by event.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::planner::PlannerSettings;
use honeygraph_chain::quorum::{VoterId, Voters};

use super::mode::FEED_PATIENCE;
use super::*;
use crate::config::{History, Start, Verification};
use crate::ingest::{SessionId, SourceEvent, SourceEventKind};
use crate::peers::PeerUrl;
use crate::peers::address_guard::AddressGuard;
use crate::peers::client::ClientTimeouts;
use crate::replica::{ExtendOutcome, Replica};
use crate::sync::fetch::Fetched;
use crate::sync::handle::{NoConsensus, NotAsked};
use crate::test_chain::{Home, at, block_event, chain, number, settings};
use crate::wire::shapes::{SyncGapsAnswer, SyncResults};

/// Settings of a node that knows these peers.
fn sync_settings(home: &Home, peers: &[PeerUrl]) -> SyncSettings {
    SyncSettings {
        enabled: true,
        network: "spkcc".parse().unwrap(),
        schedule: CheckpointSchedule::default(),
        own_id: "node-under-test".parse().unwrap(),
        own_url: None,
        interval: Duration::from_mins(1),
        discovery_interval: Duration::from_mins(1),
        planner: PlannerSettings::default(),
        seed: 1,
        peers: peers.to_vec(),
        peers_max: 64,
        voters: Voters::new([]),
        peer_voters: Vec::new(),
        verification: Verification::Strict,
        honeycomb_nodes: Vec::new(),
        ipfs_gateways: Vec::new(),
        document_bytes_max: 1 << 30,
        documents_directory: home.directory.path().join("documents"),
        genesis: None,
        start: Start::Join,
        history: History::All,
    }
}

/// An engine that stands still beside a replica: what happens to it is what a test does.
fn engine(settings: SyncSettings, mut replica: Replica) -> SyncEngine {
    replica.settle().unwrap();
    let store = replica.store().clone();
    let (outbox, _) = mpsc::unbounded_channel();
    let (replica, _) = ReplicaHandle::spawn(replica, outbox);
    let client = client(&settings);
    let (view, _) = watch::channel(Arc::default());
    SyncEngine::new(settings, replica, store, client, Metrics::new(), view).unwrap()
}

fn client(settings: &SyncSettings) -> PeerClient {
    let guard = AddressGuard::new(settings.peers.iter().chain(&settings.honeycomb_nodes));
    PeerClient::new(&settings.own_id, guard, ClientTimeouts::default()).unwrap()
}

/// What a peer says of itself.
fn says(engine: &mut SyncEngine, peer: &PeerUrl, first: BlockNumber, head: BlockNumber) {
    let said = serde_json::json!({"protocol": 1, "network": "spkcc", "peerId": "other", "base": first, "head": head});
    let said = serde_json::from_value(said).unwrap();
    let key = PeerRegistry::key_of(peer);
    let network = engine.settings.network.clone();
    assert!(
        engine
            .registry
            .on_answer(&key, &network, Some(&said), Some(head), 1)
    );
}

/// A honeycomb sends the blocks at these places of the chain.
fn send(replica: &mut Replica, places: std::ops::Range<usize>) {
    let mut events = vec![SourceEventKind::Connected {
        session: SessionId(1),
    }];
    events.extend(
        chain().blocks[places]
            .iter()
            .map(|fetched| block_event(fetched.block.block())),
    );
    for event in events {
        let source = "one".parse().unwrap();
        replica
            .on_source(SourceEvent { source, event }, unix_now().as_secs())
            .unwrap();
    }
}

#[tokio::test]
async fn a_honeycomb_that_has_fallen_silent_hides_no_head_of_peers() {
    for is_configured in [true, false] {
        let home = Home::new();
        let mut replica = home.started(settings());
        send(&mut replica, 0..150);
        let peer: PeerUrl = "http://peer.example:3030".parse().unwrap();
        let configured = if is_configured {
            vec![peer.clone()]
        } else {
            Vec::new()
        };
        let mut engine = engine(sync_settings(&home, &configured), replica);
        let _ = engine.registry.add(peer.clone(), None, PeerSource::Discovered);
        says(&mut engine, &peer, at(0), at(499));
        // It is about to send what comes next.
        engine.on_status();
        assert_eq!(engine.wanted, IntervalSet::default());
        // Its connection stands, and nothing comes.
        engine.progress.since -= FEED_PATIENCE;
        engine.on_status();
        let rest = BlockRange::new(at(150), at(499)).unwrap();
        assert_eq!(engine.wanted, rest.into(), "configured: {is_configured}");
        assert_eq!(engine.mode(), SyncMode::Fill);
    }
}

#[tokio::test]
async fn a_honeycomb_is_not_silent_while_commits_are_held() {
    let home = Home::new();
    let mut replica = home.started(settings());
    send(&mut replica, 0..150);
    replica.stop_at(Some(at(149)));
    let peer: PeerUrl = "http://peer.example:3030".parse().unwrap();
    let mut engine = engine(sync_settings(&home, std::slice::from_ref(&peer)), replica);
    says(&mut engine, &peer, at(0), at(499));
    engine.on_status();
    engine.progress.since -= FEED_PATIENCE;
    engine.on_status();
    assert_eq!(engine.wanted, IntervalSet::default());
}

/// A voter that answers about blocks once it is let to, and counts the calls.
struct Voter {
    url: PeerUrl,
    calls: watch::Receiver<Calls>,
    answers: watch::Sender<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    under_way: usize,
    most: usize,
    all: usize,
}

/// A call that is under way.
struct Call(watch::Sender<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.send_modify(|calls| calls.under_way -= 1);
    }
}

impl Voter {
    async fn start() -> Self {
        let (counted, calls) = watch::channel(Calls::default());
        let (answers, may_answer) = watch::channel(false);
        let hash = get(async move || {
            counted.send_modify(|calls| {
                calls.under_way += 1;
                calls.all += 1;
                calls.most = calls.most.max(calls.under_way);
            });
            let _call = Call(counted.clone());
            let _ = may_answer.clone().wait_for(|may| *may).await;
            StatusCode::NOT_FOUND
        });
        let router = Router::new().route("/api/sync/hash/{block}", hash);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            url: format!("http://{address}").parse().unwrap(),
            calls,
            answers,
        }
    }

    async fn wait_for_calls(&mut self, under_way: usize) {
        let there = |calls: &Calls| calls.under_way == under_way;
        self.calls.wait_for(there).await.unwrap();
    }
}

/// An engine that runs.
fn run(settings: SyncSettings, mut replica: Replica) -> SyncHandle {
    replica.settle().unwrap();
    let store = replica.store().clone();
    let (outbox, _) = mpsc::unbounded_channel();
    let (replica, _) = ReplicaHandle::spawn(replica, outbox);
    let client = client(&settings);
    let shutdown = CancellationToken::new();
    SyncEngine::spawn(settings, replica, store, client, Metrics::new(), shutdown)
        .unwrap()
        .0
}

#[tokio::test]
async fn strangers_have_the_voters_asked_about_few_blocks_at_a_time() {
    let home = Home::new();
    let mut voter = Voter::start().await;
    let id = VoterId("voter".to_owned());
    let settings_of_node = SyncSettings {
        voters: Voters::new([(id.clone(), 1)]),
        peer_voters: vec![(voter.url.clone(), id)],
        ..sync_settings(&home, std::slice::from_ref(&voter.url))
    };
    let sync = run(settings_of_node, home.started(settings()));
    let undecided = Ok(Err(NoConsensus::Undecided));
    assert_eq!(sync.consensus(number(1_000_000_000_000)).await, undecided);
    assert_eq!(voter.calls.borrow().all, 0);

    let ask = |block: u64| {
        let sync = sync.clone();
        async move { sync.consensus(number(block)).await }
    };
    let mut asked: tokio::task::JoinSet<_> = (1..=300).map(ask).collect();
    for _ in 0..292 {
        assert_eq!(asked.join_next().await.unwrap().unwrap(), Err(NotAsked::Busy));
    }
    voter.wait_for_calls(8).await;
    // Nobody is asked for those who wait no more.
    asked.shutdown().await;
    voter.wait_for_calls(0).await;
    // Nor, however fast the voter answers, more often than a few times a second.
    voter.answers.send_replace(true);
    let mut answered = 0;
    for block in 301..=600 {
        answered += u64::from(ask(block).await == undecided);
    }
    assert!((1..100).contains(&answered), "{answered}");
    assert_eq!(voter.calls.borrow().most, 8);
}

/// An engine whose replica has the first 150 blocks, and that knows a peer with 500.
fn behind(home: &Home, enabled: bool) -> SyncEngine {
    let mut replica = home.started(settings());
    let first = &chain().blocks[..150];
    replica.extend(&"a".parse().unwrap(), first).unwrap();
    let peer: PeerUrl = "http://peer.example:3030".parse().unwrap();
    let settings = SyncSettings {
        enabled,
        ..sync_settings(home, std::slice::from_ref(&peer))
    };
    let mut engine = engine(settings, replica);
    says(&mut engine, &peer, at(0), at(499));
    let key = PeerRegistry::key_of(&peer);
    let profile = engine.registry.get(&key).unwrap().profile.unwrap();
    let seen = Event::PeerSeen {
        peer: key.clone(),
        profile,
        score: engine.scores.get(&key),
    };
    engine.step(seen);
    engine.on_status();
    engine
}

/// Asks for a run over some blocks. Dropping what it gives is going away.
fn ask_for_run(
    engine: &mut SyncEngine,
    only: Option<Vec<BlockRange>>,
) -> tokio::sync::oneshot::Receiver<SyncGapsAnswer> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    engine.on_command(SyncCommand::SyncGaps { only, reply });
    answer
}

#[tokio::test]
async fn a_run_over_a_known_gap_detects_no_other_one() {
    let home = Home::new();
    let mut engine = behind(&home, true);
    assert_eq!((engine.wanted.run_count(), engine.gaps_detected), (1, 1));
    for _ in 0..2 {
        drop(ask_for_run(&mut engine, None));
        assert!(engine.run.is_some());
        engine.check_run();
        assert!(engine.run.is_none());
        engine.on_status();
    }
    assert_eq!(engine.gaps_detected, 1);
    assert!(
        !engine.requests.is_empty(),
        "the run took away what is fetched anyway"
    );
}

#[tokio::test]
async fn a_run_fetches_what_it_is_asked_for_and_ends() {
    let home = Home::new();
    let mut engine = behind(&home, false);
    assert_eq!(engine.planner.wanted(), &IntervalSet::default());
    let asked = BlockRange::new(at(200), at(220)).unwrap();
    let answer = ask_for_run(&mut engine, Some(vec![asked]));
    assert_eq!(engine.planner.wanted(), &asked.into());
    assert_eq!(engine.requests.len(), 1);
    // Nor does what becomes known meanwhile make it more.
    engine.on_status();
    assert_eq!(engine.planner.wanted(), &asked.into());
    drop(answer);
    engine.check_run();
    assert_eq!(engine.planner.wanted(), &IntervalSet::default());
    assert!(engine.requests.is_empty(), "a run that is over goes on fetching");
}

#[tokio::test]
async fn a_run_of_which_nothing_was_applied_counts_for_nothing() {
    let home = Home::new();
    let mut engine = behind(&home, false);
    let range = BlockRange::new(at(150), at(199)).unwrap();
    let mut answer = ask_for_run(&mut engine, Some(vec![range]));
    let blocks = chain().blocks[150..200].iter().cloned().map(Fetched::Linked);
    let run = Run {
        peer: "a".parse().unwrap(),
        blocks: blocks.collect(),
    };
    // A hold came between the hand-over and its turn.
    let (applied, committed) = (at(149), at(149));
    engine.on_handed(Handed {
        run,
        range,
        outcome: ExtendOutcome::Accepted { applied, committed },
    });
    assert_eq!(engine.needed_bytes, 0);
    engine.check_run();
    assert!(answer.try_recv().is_err(), "the run ended without a block");
    // It is handed over again after that.
    assert_eq!(engine.front_next, at(150));
    assert_eq!(engine.buffer.take(at(150)).unwrap().range(), Some(range));
}

#[tokio::test]
async fn a_run_over_gaps_that_are_none_has_empty_results() {
    let home = Home::new();
    let mut engine = behind(&home, true);
    let here = BlockRange::new(at(10), at(20)).unwrap();
    let answer = ask_for_run(&mut engine, Some(vec![here])).await;
    assert_eq!(answer.unwrap(), SyncGapsAnswer::done(SyncResults::default()));
}

#[tokio::test]
async fn who_looks_for_peers_is_told_how_many_are_known_once_every_list_has_come() {
    let home = Home::new();
    let list = serde_json::json!([
        {"id": "one", "url": "http://one.example:3030"},
        {"id": "two", "url": "http://two.example:3030"}
    ]);
    let lists = Router::new().route("/api/honeygraph-peers", get(async move || axum::Json(list)));
    let mut honeycombs: Vec<PeerUrl> = Vec::new();
    for router in [lists, Router::new()] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        honeycombs.push(format!("http://{address}").parse().unwrap());
    }
    let settings_of_node = SyncSettings {
        honeycomb_nodes: honeycombs,
        ..sync_settings(&home, &[])
    };
    let mut engine = engine(settings_of_node, home.started(settings()));
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    let nodes = Vec::new();
    engine.on_command(SyncCommand::Discover { nodes, reply });
    for _ in 0..2 {
        assert!(answer.try_recv().is_err(), "answered before every list came");
        let done = engine.tasks.join_next().await.unwrap().unwrap();
        engine.on_done(done);
    }
    assert_eq!(answer.await, Ok(2));
    // Nobody is there to be asked.
    engine.settings.honeycomb_nodes.clear();
    let (reply, answer) = tokio::sync::oneshot::channel();
    let nodes = Vec::new();
    engine.on_command(SyncCommand::Discover { nodes, reply });
    assert_eq!(answer.await, Ok(2));
}
