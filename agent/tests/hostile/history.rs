//! Blocks of the past, and what is told of their checkpoints.

use honeygraph_agent::store::{Position, Store, StoreSettings};
use honeygraph_chain::BlockRange;

use super::ALONE;
use super::fault::Fault;
use super::gate::Gate;
use super::observe::{check_store, look, wait_to_see};
use super::peer::ScriptedPeer;
use super::world::World;

/// Votes, and is no peer: nobody answers for checkpoints of the past.
const HONEYCOMB: &str = "loopback";

#[tokio::test(flavor = "multi_thread")]
async fn history_needs_no_list_of_deltas_and_nobody_is_banned_for_a_false_one() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    // Below the last full state before the start, which is the 300th block.
    let liar = Fault::FalseCheckpoint(world.at(199));
    let liar = ScriptedPeer::start(world.chain.clone(), liar, None).await;
    let honest = world.honest.url();
    for (name, peers) in [
        ("alone", vec![honest.clone()]),
        ("liar", vec![liar.url(), honest.clone()]),
    ] {
        let node = world.node(name, &peers, &[HONEYCOMB.to_owned()], &[]).await;
        let status = node.wait_complete(world.start_block(), world.head()).await;
        assert_eq!(status.position.unwrap().history_start, world.start_block());
        let seen = wait_to_see(&node, name, |seen| seen.peer(&honest)["isAlive"] == true).await;
        assert!(seen.score(&honest) > -9.0, "{name}: {:#}", seen.admin["peers"]);
        assert_eq!(seen.peer(&honest)["standing"], "good", "{name}");
        node.stop().await;
        let highest = check_store(&world.directory(name), &world.chain).await;
        assert_eq!(highest, Some(world.head()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_answer_for_voters_that_are_away() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let liar = Fault::FalseCheckpointBlock(world.at(299));
    let liar = ScriptedPeer::start(world.chain.clone(), liar, None).await;
    let voter = ScriptedPeer::start(world.chain.clone(), Fault::Nothing, None).await;
    let gate = Gate::start(voter.address).await;
    let anchor = world.last_anchor();
    let trusted = format!("{}:{}", anchor.block_num, anchor.state_hash);
    let peers = [liar.url(), gate.url()];
    let flags = ["--trusted-checkpoint", &trusted];
    let node = world.node("away", &peers, &[gate.url()], &flags).await;
    let started = node.wait_complete(anchor.block_num.next(), world.head()).await;
    node.stop().await;
    // It wanted history when its voter went away.
    {
        let data = world.directory("away").join("data");
        let (_, mut writer, _) = Store::open(&data, &StoreSettings::default()).unwrap();
        let mut transaction = writer.begin();
        transaction.set_position(Position {
            history_start: world.start_block(),
            ..started.position.unwrap()
        });
        transaction.commit().unwrap();
    }
    let node = world.node("away", &peers, &[gate.url()], &flags).await;
    node.wait_complete(world.at(300), world.head()).await;
    gate.open();
    node.wait_complete(world.start_block(), world.head()).await;
    let seen = look(&node).await;
    assert_eq!(
        seen.peer(&gate.url())["standing"],
        "good",
        "{:#}",
        seen.admin["peers"]
    );
    assert_eq!(
        liar.asked("checkpoints"),
        0,
        "a stranger was asked in their place"
    );
    node.stop().await;
    let highest = check_store(&world.directory("away"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_learned_keeps_no_hole_open() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    // Two of three voters joined after the full state at the 300th block, and know nothing of it.
    let late = |from: usize| ScriptedPeer::start(world.chain[from..].to_vec(), Fault::Nothing, None);
    let (one, other) = (late(300).await, late(300).await);
    let voters = [world.honest.url(), one.url(), other.url()];
    let node = world.node("undecided", &voters, &voters, &[]).await;
    node.wait_complete(world.at(300), world.head()).await;
    node.stop().await;

    let directory = world.directory("undecided");
    let hole = BlockRange::new(world.at(410), world.at(420)).unwrap();
    {
        let (_, mut writer, _) = Store::open(&directory.join("data"), &StoreSettings::default()).unwrap();
        let mut transaction = writer.begin();
        transaction.remove_blocks(hole);
        transaction.commit().unwrap();
    }
    let node = world.node("undecided", &voters, &voters, &[]).await;
    wait_to_see(&node, "the blocks that nothing proves", |_| {
        one.asked("checkpoints") + other.asked("checkpoints") > 3
    })
    .await;
    let status = node.wait_complete(world.at(300), world.head()).await;
    assert!(!status.have.contains(world.at(299)));
    let seen = look(&node).await;
    for url in &voters {
        assert_eq!(seen.peer(url)["standing"], "good", "{:#}", seen.admin["peers"]);
    }
    node.stop().await;
    assert_eq!(check_store(&directory, &world.chain).await, Some(world.head()));
}
