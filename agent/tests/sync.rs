//! Nodes over real sockets: a honeycomb feeds one, the others heal from each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Network, TestNode, feed};
use honeygraph_agent::replica::ReplicaStatus;
use honeygraph_agent::store::{Store, StoreSettings};
use honeygraph_chain::{BlockNumber, BlockRange};
use honeygraph_honeycomb::honeycomb_node::HoneycombNode;
use honeygraph_honeycomb::receiver::{ReceiverSettings, Start};

/// A network whose honeycomb has made so many blocks, and a node that has them from it.
async fn network_with(blocks: u64) -> (Network, TestNode) {
    let network = Network::start();
    let first = network.fed_node("first", &[]).await;
    network.produce(blocks);
    network.wait_complete(&first).await;
    (network, first)
}

/// A node that has what another one has, and goes away.
async fn leave_late(network: &Network, url: &str) {
    let late = network.node("late", &["--peers", url]).await;
    network.wait_complete(&late).await;
    late.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_follows_a_honeycomb_and_another_fills_its_gap_from_it() {
    let (network, first) = network_with(1_250).await;
    let position = network.wait_complete(&first).await;
    assert_eq!(position.checkpoints.deltas.len(), 9);

    let second = network.node("second", &["--peers", &first.url()]).await;
    network.wait_complete(&second).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_nothing_starts_from_a_checkpoint_and_backfills_history() {
    let (network, first) = network_with(1_250).await;

    let url = first.url();
    let empty = network
        .empty_node("empty", &["--peers", &url, "--voters", &url])
        .await;
    let position = network.wait_complete(&empty).await;
    let (start, head) = (network.first_block(), network.head());
    assert_eq!(position.history_start, start);
    let irreversible = empty.wait_for("finality", |status| {
        status
            .position
            .as_ref()
            .is_some_and(|position| position.irreversible_block() >= Some(head.saturating_sub(100)))
    });
    irreversible.await;
    // The voters are asked: about the covering anchor below what is irreversible, about the hash above it.
    for block in [start, head] {
        let url = format!("{}/api/sync/consensus/{block}", empty.url());
        let answer: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let hash = network
            .honeycomb
            .read(|chain| chain.block(block).unwrap().block.hash().to_string());
        assert_eq!(answer["consensus"]["blockHash"], hash, "{block}: {answer}");
    }
    first.stop().await;
    empty.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_exactly_at_a_full_state_goes_on_like_one_that_ran_from_the_genesis() {
    // The newest checkpoint is the full state at the 300th block.
    let (network, first) = network_with(311).await;
    let start = network.first_block().saturating_add(299);

    let url = first.url();
    let second = network
        .empty_node("second", &["--peers", &url, "--voters", &url])
        .await;
    let status = second
        .wait_for("a start", |status| status.position.is_some())
        .await;
    assert_eq!(
        status.position.unwrap().checkpoints.root.to_string(),
        STATE_AT_300
    );
    network.produce(330);
    network.wait_complete(&first).await;
    let status = second.wait_complete(start.next(), network.head()).await;
    let (ours, theirs) = (status.position.unwrap(), network.wait_complete(&first).await);
    assert_eq!(
        (ours.checkpoints.deltas.len(), &ours.checkpoints),
        (3, &theirs.checkpoints)
    );
    // Both compute the same documents of it.
    for delta in &ours.checkpoints.deltas {
        let path = format!("/api/checkpoints/{}", delta.hash);
        assert_eq!(ask(&second, &path).await, ask(&first, &path).await);
    }
    // Nobody was blamed for it.
    assert_eq!(fetched_blocks(&second).await.1, 0, "blocks were refused");
    assert_eq!(status.counters.state_hash_mismatches, 0);
    first.stop().await;
    second.stop().await;
}

/// Content id of the full state that the published chain has at its 300th block.
const STATE_AT_300: &str = "Qma1KTEVe7W1LRGMtUc1fFodVZgphGvDg5Pd8Lt56W5WG7";

#[tokio::test(flavor = "multi_thread")]
async fn holes_and_an_outage_are_healed_from_several_peers() {
    let network = Network::start();
    let feeds = [network.fed_node("a", &[]).await, network.fed_node("b", &[]).await];
    network.produce(400);
    let peers = feeds.iter().map(TestNode::url).collect::<Vec<_>>().join(",");
    let flags = ["--peers", &peers, "--voters", &peers];
    let node = network.node("broken", &flags).await;
    network.wait_complete(&node).await;
    node.stop().await;

    // While it is away the chain grows, and its disk loses blocks.
    network.produce(600);
    for feed in &feeds {
        network.wait_complete(feed).await;
    }
    {
        let data = network.directory("broken").join("data");
        let (_, mut writer, _) = Store::open(&data, &StoreSettings::default()).unwrap();
        let mut transaction = writer.begin();
        let start = network.first_block();
        for (from, to) in [(10, 20), (95, 250), (320, 321)] {
            let range = BlockRange::new(start.saturating_add(from), start.saturating_add(to)).unwrap();
            transaction.remove_blocks(range);
        }
        transaction.commit().unwrap();
    }
    let node = network.node("broken", &flags).await;
    network.wait_complete(&node).await;
    node.stop().await;
    for feed in feeds {
        feed.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fetches_on_request_alone_fills_the_gap_it_is_asked_for_and_no_other() {
    let (network, first) = network_with(400).await;
    let url = first.url();
    leave_late(&network, &url).await;
    let start = network.first_block();
    let gaps = [(10, 20), (220, 250)]
        .map(|(from, to)| BlockRange::new(start.saturating_add(from), start.saturating_add(to)).unwrap());
    {
        let data = network.directory("late").join("data");
        let (_, mut writer, _) = Store::open(&data, &StoreSettings::default()).unwrap();
        let mut transaction = writer.begin();
        for gap in gaps {
            transaction.remove_blocks(gap);
        }
        transaction.commit().unwrap();
    }
    let node = network
        .node("late", &["--peers", &url, "--sync-enabled", "false"])
        .await;
    let request = reqwest::Client::new()
        .post(format!("{}/api/sync/sync-gaps", node.url()))
        .json(&serde_json::json!({"gaps": [{"start": gaps[1].start(), "end": gaps[1].end()}]}));
    let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    let results = &answer["results"];
    assert_eq!(
        (
            &results["totalGaps"],
            &results["syncedBlocks"],
            &results["failedBlocks"]
        ),
        (&1.into(), &gaps[1].len().into(), &0.into()),
        "{answer}"
    );
    expect_fetched(&node, gaps[1].len()).await;
    let status = node.running.status().borrow().clone();
    assert_eq!(gaps.map(|gap| missing(&status, gap)), [gaps[0].len(), 0]);
    node.stop().await;
    first.stop().await;
}

/// What a node says of itself on a path of its public listener.
async fn ask(node: &TestNode, path: &str) -> serde_json::Value {
    let url = format!("{}{path}", node.url());
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

/// Waits until a node says that it took so many blocks from peers since it started, and has none to spare.
async fn expect_fetched(node: &TestNode, blocks: u64) {
    let all_counted = async { while fetched_blocks(node).await.0 < blocks {} };
    let _ = tokio::time::timeout(common::PATIENCE, all_counted).await;
    assert_eq!(fetched_blocks(node).await, (blocks, 0));
}

/// The blocks of a range that a node that is stopped does not have.
fn missing_on_disk(network: &Network, name: &str, range: BlockRange) -> u64 {
    let data = network.directory(name).join("data");
    let (store, _, _) = Store::open(&data, &StoreSettings::default()).unwrap();
    let have = store.view().have().unwrap();
    have.missing_in(range).map(BlockRange::len).sum()
}

/// Blocks that a node has taken from peers since it started, and those that it did not need.
async fn fetched_blocks(node: &TestNode) -> (u64, u64) {
    let url = format!("http://{}/metrics", node.running.addresses.metrics);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let count = |outcome: &str| {
        let name = format!("honeygraph_sync_blocks_total{{outcome=\"{outcome}\"}}");
        let line = text.lines().find(|line| line.starts_with(&name));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    };
    (count("committed"), count("duplicate") + count("refused"))
}

fn state_height(node: &TestNode) -> BlockNumber {
    let status = node.running.status();
    let position = status.borrow().position.clone();
    position.unwrap().state_height
}

fn missing(status: &ReplicaStatus, range: BlockRange) -> u64 {
    status.have.missing_in(range).map(BlockRange::len).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_honeycomb_sends_above_a_gap_is_there_at_once_and_never_fetched() {
    let (network, first) = network_with(250).await;
    let url = first.url();
    leave_late(&network, &url).await;

    // While it is away the chain grows; then it hears the newest blocks, and no peer is there.
    network.produce(450);
    let late = network.node("late", &[]).await;
    let height = state_height(&late);
    let settings = ReceiverSettings {
        start: Start::Head,
        ..ReceiverSettings::new(late.ingest_url())
    };
    let mut progress = network.honeycomb.add_receiver("late", settings);
    progress
        .wait_for(|progress| progress.reported_index.is_some())
        .await
        .unwrap();
    network.produce(350);
    let head = network.head();
    let status = late
        .wait_for("the head", |status| status.have.contains(head))
        .await;
    assert_eq!(status.position.as_ref().unwrap().state_height, height);
    let wanted = BlockRange::new(network.first_block(), head).unwrap();
    let gap = missing(&status, wanted);
    assert!((450..=560).contains(&gap), "{gap} missing of {:?}", status.have);
    // It shows the newest block, and says that it stands above a gap and is not applied.
    let block = ask(&late, &format!("/api/query/block/{head}/full")).await;
    let reference = network
        .honeycomb
        .read(|chain| chain.block(head).unwrap().block.hash().to_string());
    assert_eq!(block["blockHash"], reference);
    assert_eq!(
        (&block["isFinalized"], &block["isApplied"]),
        (&false.into(), &false.into())
    );
    let gaps = ask(
        &late,
        &format!("/api/sync/gaps?from={}&to={head}", network.first_block()),
    )
    .await;
    assert_eq!(
        (&gaps["totalMissing"], gaps["gaps"].as_array().unwrap().len()),
        (&gap.into(), 1)
    );
    let said = ask(&late, "/api/sync/status").await;
    assert!(
        said["head"].as_u64() >= Some(head.get()) && said["stateHeight"] == height.get(),
        "{said}"
    );
    assert_eq!(ask(&late, "/api/sync/capabilities").await["head"], height.get());
    assert!(ask(&late, &format!("/api/sync/hash/{head}")).await["error"].is_string());
    network.honeycomb.remove_receiver("late");
    late.stop().await;
    network.wait_complete(&first).await;
    let end = state_height(&first);

    // Nothing of it is lost in a restart, and peers are asked for the gap alone.
    let needed = missing_on_disk(
        &network,
        "late",
        BlockRange::new(network.first_block(), end).unwrap(),
    );
    assert!(
        (gap..=gap + 1).contains(&needed),
        "{needed} missing, before it was {gap}"
    );
    let late = network.node("late", &["--peers", &url]).await;
    late.wait_complete(network.first_block(), end).await;
    network.wait_complete(&late).await;
    expect_fetched(&late, needed).await;
    let block = ask(&late, &format!("/api/query/block/{head}/full")).await;
    assert_eq!(block["isApplied"], serde_json::Value::Null);
    late.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_honeycomb_that_falls_silent_with_its_socket_open_keeps_no_node_from_the_head() {
    let network = Network::start();
    network.produce(230);
    // Another honeycomb of the same network, which goes on where the first one stops.
    let other = network.fork(network.honeycomb.head().number);
    let peer = network.node("peer", &[]).await;
    feed(&other, &peer);
    let url = peer.url();
    let node = network.fed_node("node", &["--peers", &url]).await;
    network.wait_complete(&node).await;
    other.produce(300).unwrap();
    let head = other.head().number.previous().unwrap();
    peer.wait_complete(network.first_block(), head).await;

    // It is given half a minute.
    let silent_at = state_height(&node);
    node.wait_for("a block from the peer", |status| {
        status
            .position
            .as_ref()
            .is_some_and(|position| position.state_height > silent_at)
    })
    .await;
    let status = node.wait_complete(network.first_block(), head).await;
    assert!(status.sources[0].connected, "{:?}", status.sources);
    node.stop().await;
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_periods_are_fetched_before_the_gap_below_them() {
    let (network, first) = network_with(150).await;
    let (url, start) = (first.url(), network.first_block());
    leave_late(&network, &url).await;

    // A peer that kept nothing of the gap's beginning.
    network.produce(850);
    network.wait_complete(&first).await;
    let kept = [
        "--peers",
        &url,
        "--voters",
        &url,
        "--history-blocks",
        "100",
        "--max-reorg-depth",
        "100",
    ];
    let pruned = network.empty_node("pruned", &kept).await;
    let head = network.head();
    pruned
        .wait_for("the newest blocks", |status| {
            status.have.contains(head)
                && status.position.as_ref().is_some_and(|position| {
                    position.history_start > start.saturating_add(200) && position.irreversible.is_some()
                })
        })
        .await;

    let pruned_url = pruned.url();
    let late = network.node("late", &["--peers", &pruned_url]).await;
    let height = state_height(&late);
    let newest = BlockRange::new(start.saturating_add(800), head).unwrap();
    let status = late
        .wait_for("the newest periods", |status| missing(status, newest) == 0)
        .await;
    assert_eq!(status.position.as_ref().unwrap().state_height, height);
    late.stop().await;

    let end = state_height(&first);
    let needed = missing_on_disk(&network, "late", BlockRange::new(start, end).unwrap());
    assert!(
        needed < end.distance_from(height) - 190,
        "{needed} are still missing"
    );
    let late = network.node("late", &["--peers", &url]).await;
    late.wait_complete(start, end).await;
    network.wait_complete(&late).await;
    expect_fetched(&late, needed).await;
    for node in [late, pruned, first] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_of_which_only_the_tip_was_heard_is_fetched_weighed_and_followed() {
    let network = Network::start();
    network.produce(230);
    // Two honeycombs disagree from before a checkpoint on.
    let fork_at = network.first_block().saturating_add(180);
    let other = network.fork(fork_at);
    network.produce(60);
    other.produce(70).unwrap();
    let peer = network.node("peer", &[]).await;
    feed(&other, &peer);

    let tokens = "a=the-token-of-a-17,b=the-token-of-b-17,c=the-token-of-c-17";
    let url = peer.url();
    let flags = ["--peers", &url, "--honeycomb-sources", tokens];
    let node = network.node("node", &flags).await;
    let feed_as = |honeycomb: &HoneycombNode, name: &str, start| {
        let settings = ReceiverSettings {
            bearer_token: Some(format!("the-token-of-{name}-17")),
            start,
            ..ReceiverSettings::new(node.ingest_url())
        };
        honeycomb.add_receiver(name, settings)
    };
    let hash_of =
        |honeycomb: &HoneycombNode, number| honeycomb.read(|chain| chain.block(number).unwrap().block.hash());
    let stands_on = |honeycomb: &HoneycombNode, status: &ReplicaStatus| {
        status.position.as_ref().is_some_and(|position| {
            let above = position.state_height > fork_at.saturating_add(30);
            let hash = honeycomb.read(|chain| Some(chain.block(position.state_height)?.block.hash()));
            above && hash.is_some() && position.state_block_hash == hash
        })
    };
    feed_as(&network.honeycomb, "a", Start::Beginning);
    // The peer's fork is held beside the chain of the only honeycomb, and does not outweigh it.
    let status = node
        .wait_for("both forks", |status| {
            stands_on(&network.honeycomb, status) && status.forks.len() == 1
        })
        .await;
    let fork = status.forks[0];
    assert_eq!(fork.ancestor.number, fork_at);
    assert_eq!(fork.tip.hash, hash_of(&other, fork.tip.number));

    // A second honeycomb is heard at its tip alone: one on one, and the peer decides.
    let mut progress = feed_as(&other, "b", Start::Head);
    progress.wait_for(|progress| progress.connected).await.unwrap();
    other.produce(6).unwrap();
    node.wait_for("the other fork", |status| stands_on(&other, status))
        .await;
    // A third one makes the first fork the heavier one again.
    let mut progress = feed_as(&network.honeycomb, "c", Start::Head);
    progress.wait_for(|progress| progress.connected).await.unwrap();
    network.produce(6);
    let status = node
        .wait_for("the first fork", |status| stands_on(&network.honeycomb, status))
        .await;
    assert_eq!(status.counters.reorganizations, 2);
    assert_eq!(status.counters.state_hash_mismatches, 0);
    node.stop().await;
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_peers_alone_holds_their_forks_and_follows_the_heavier() {
    let network = Network::start();
    network.produce(230);
    let fork_at = network.first_block().saturating_add(220);
    let other = network.fork(fork_at);
    network.produce(20);
    other.produce(42).unwrap();
    let one = network.fed_node("one", &[]).await;
    let [two, three] = [network.node("two", &[]).await, network.node("three", &[]).await];
    feed(&other, &two);
    let (first, second, third) = (one.url(), two.url(), three.url());
    let peers = [first.as_str(), &second, &third].join(",");
    let node = network.node("node", &["--peers", &peers]).await;
    let stands_on = |honeycomb: &HoneycombNode, status: &ReplicaStatus| {
        status.position.as_ref().is_some_and(|position| {
            let hash = honeycomb.read(|chain| Some(chain.block(position.state_height)?.block.hash()));
            position.state_height > fork_at && position.state_block_hash == hash
        })
    };
    // One on one: the longer.
    node.wait_for("the longer fork", |status| {
        stands_on(&other, status) && status.forks.len() == 1
    })
    .await;
    feed(&network.honeycomb, &three);
    node.wait_for("the heavier fork", |status| {
        stands_on(&network.honeycomb, status) && status.forks.len() == 1
    })
    .await;
    for node in [node, one, two, three] {
        node.stop().await;
    }
}
