//! Peers that answer wrongly, slowly or not at all.

use serde_json::json;

use super::ALONE;
use super::fault::{CapabilitiesFault, Fault, OlderFault};
use super::gate::Gate;
use super::observe::{check_store, look, wait_to_see};
use super::peer::ScriptedPeer;
use super::withstand::{Case, withstand_all};
use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_the_format_are_refused_and_the_honest_peer_fills_the_node() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let elsewhere = ScriptedPeer::start(world.chain.clone(), Fault::Nothing, None).await;
    let cases = vec![
        Case::new(
            "redirected",
            Fault::Redirect(format!("{}/api/sync/blocks", elsewhere.url())),
            &["unexpected_status"],
        )
        .bad_from(world.start_block()),
        Case::new(
            "start frame late",
            Fault::StartFrameLate,
            &["malformed", "too_large"],
        ),
        Case::new("blocks swapped", Fault::BlocksSwapped, &["wrong_number"]),
        Case::new("missing end", Fault::MissingEnd, &["short_answer"]),
        Case::new("wrong checksum", Fault::WrongChecksum, &["malformed"]).bad_from(world.start_block()),
        Case::new("wrong count", Fault::WrongCount, &["malformed"]).bad_from(world.start_block()),
        Case::new("truncated", Fault::Truncated, &["short_answer"]),
        Case::new("closes early", Fault::ClosesEarly, &["unreachable"]),
        Case::new("huge frame", Fault::HugeFrame, &["too_large"]).bad_from(world.start_block()),
        Case::new("html", Fault::Html, &["malformed", "too_large"]).bad_from(world.start_block()),
        Case::new("rate limited", Fault::RateLimited, &["rate_limited"])
            .free()
            .bad_from(world.start_block()),
        Case::new("server error", Fault::ServerError, &["server_error"]).bad_from(world.start_block()),
        Case::new("drip", Fault::Drip, &["timed_out"]),
        Case::new("never answers", Fault::NeverAnswers, &["timed_out"]).bad_from(world.start_block()),
        Case::new("slow in all", Fault::SlowInAll, &["timed_out"]),
        Case::new("silent in all", Fault::SilentInAll, &[])
            .free()
            .bad_from(world.start_block()),
    ];
    withstand_all(world, cases).await;
    assert!(elsewhere.asked_nothing(), "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_blocks_are_refused_and_the_honest_peer_fills_the_node() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let at = world.at(150);
    let cases = vec![
        Case::new("other number", Fault::OtherNumber(at), &["wrong_number"]).bad_from(at),
        Case::new("broken link", Fault::BrokenLink(at), &["broken_link"]).bad_from(at),
        Case::new("other operations", Fault::OtherOperations(at), &["broken_link"]).bad_from(at),
        Case::new("hole in index", Fault::HoleInIndex(at), &["malformed"]).bad_from(at),
        Case::new("not utf-8", Fault::NotUtf8(at), &["malformed"]).bad_from(at),
        Case::new("deeply nested", Fault::DeeplyNested(at), &["malformed"]).bad_from(at),
        Case::new("leaf over subtree", Fault::LeafOverSubtree(at), &[]).bad_from(at),
        Case::new("other chain", Fault::OtherChain(at), &[]).bad_from(at),
        // The last block before a checkpoint, and the checkpoint's own block.
        Case::new(
            "other chain at a checkpoint",
            Fault::OtherChain(world.at(99)),
            &[],
        )
        .bad_from(world.at(99)),
        Case::new(
            "other operations at a checkpoint",
            Fault::OtherOperations(world.at(199)),
            &[],
        )
        .bad_from(world.at(199)),
    ];
    withstand_all(world, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn false_descriptions_are_seen_through_and_the_honest_peer_fills_the_node() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let cases = vec![
        Case::new(
            "head 10^12",
            // Beyond what the clock allows: not believed, and nothing is asked for.
            Fault::Head(json!(1_000_000_000_000_u64)),
            &[],
        )
        .free(),
        Case::new("head -1", Fault::Head(json!(-1)), &[])
            .free()
            .bad_from(world.start_block()),
        Case::new("head null", Fault::Head(json!(null)), &[])
            .free()
            .bad_from(world.start_block()),
        Case::new("base 0", Fault::Base(0), &[]).free(),
        Case::new("other network", Fault::OtherNetwork, &[])
            .free()
            .bad_from(world.start_block()),
        Case::new("many peers", Fault::ManyPeers, &[]).free(),
    ];
    let mut cases = cases;
    for (name, fault) in [
        ("nested description", CapabilitiesFault::DeeplyNested),
        ("description not utf-8", CapabilitiesFault::NotUtf8),
        ("description of a wrong type", CapabilitiesFault::WrongType),
    ] {
        cases.push(
            Case::new(name, Fault::Capabilities(fault), &[])
                .free()
                .bad_from(world.start_block()),
        );
    }
    withstand_all(world, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_no_peer_has_are_not_wanted_for_ever() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let head = world.head();
    for (name, fault) in [
        ("base that nobody has", Fault::Base(1)),
        ("head that nobody has", Fault::Head(json!(head.get() + 5_000))),
    ] {
        let hostile = ScriptedPeer::start(world.chain.clone(), fault, None).await;
        let peers = [hostile.url(), world.honest.url()];
        let node = world
            .node(name, &peers, &[hostile.url()], &["--init-chain"])
            .await;
        node.wait_complete(world.start_block(), head).await;
        let seen = wait_to_see(&node, name, |seen| {
            let sync = &seen.admin["sync"];
            sync["mode"] == "follow" && sync["gaps"]["count"] == 0 && sync["networkHead"] == head.get()
        })
        .await;
        assert_eq!(seen.peer(&hostile.url())["standing"], "good", "{name}");
        node.stop().await;
        let highest = check_store(&world.directory(name), &world.chain).await;
        assert_eq!(highest, Some(head), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_that_was_taken_before_the_voters_spoke_is_taken_back() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let at = world.at(150);
    let voter = world.voter().await;
    let hostile = ScriptedPeer::start(world.other_chain(150), Fault::OtherChain(at), None).await;
    let (voter_gate, honest_gate) = (Gate::start(voter.address).await, world.gate().await);
    let peers = [hostile.url(), voter_gate.url(), honest_gate.url()];
    let node = world
        .node("late voters", &peers, &[voter_gate.url()], &["--init-chain"])
        .await;
    // Nobody contradicts it: it is taken, unconfirmed.
    let status = node.wait_complete(world.start_block(), world.head()).await;
    assert_eq!(status.position.unwrap().irreversible, None);

    voter_gate.open();
    node.wait_for("the lie to be taken back", |status| {
        status.position.as_ref().unwrap().state_height < at
    })
    .await;
    honest_gate.open();
    let status = node.wait_complete(world.start_block(), world.head()).await;
    let last = world.chain.last().unwrap().block.hash();
    assert_eq!(status.position.unwrap().state_block_hash, Some(last));
    let seen = look(&node).await;
    assert!(seen.score(&honest_gate.url()) > -9.0, "{:#}", seen.admin["peers"]);
    node.stop().await;
    let highest = check_store(&world.directory("late voters"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_of_older_peers_are_taken_where_a_checkpoint_proves_them() {
    let _not_measured = ALONE.read().await;
    let world = World::start().await;
    let (voter, older) = (world.voter().await, Fault::Older(OlderFault::Nothing));
    let older = ScriptedPeer::start(world.chain.clone(), older, None).await;

    let peers = [older.url(), voter.url()];
    let proven = world.node("proven", &peers, &peers[1..], &["--init-chain"]).await;
    let unproven = world.node("unproven", &peers[..1], &[], &["--init-chain"]).await;
    let last_checkpoint = world.last_anchor().block_num;
    let status = proven.wait_complete(world.start_block(), last_checkpoint).await;
    // What no checkpoint covers yet is not taken.
    assert_eq!(status.position.unwrap().state_height, last_checkpoint);
    wait_to_see(&unproven, "the older peer to be asked for its head", |seen| {
        seen.peer(&older.url())["isAlive"] == true && older.asked("head") > 20
    })
    .await;
    let seen = look(&unproven).await;
    assert_eq!(
        seen.admin["position"]["stateHeight"],
        json!(world.start_block().get() - 1)
    );
    assert!(
        seen.score(&older.url()) > -9.0,
        "an older peer is no liar: {:#}",
        seen.admin["peers"]
    );
    proven.stop().await;
    unproven.stop().await;
    let highest = check_store(&world.directory("proven"), &world.chain).await;
    assert_eq!(highest, Some(last_checkpoint));
    assert_eq!(
        check_store(&world.directory("unproven"), &world.chain).await,
        None
    );

    // Behind a checkpoint that a node has started from, only blocks with hashes will do.
    let peers = [older.url(), world.honest.url()];
    let joined = world.node("joined", &peers, &[world.honest.url()], &[]).await;
    joined.wait_complete(world.start_block(), world.head()).await;
    joined.stop().await;
    let highest = check_store(&world.directory("joined"), &world.chain).await;
    assert_eq!(highest, Some(world.head()));

    let at = world.at(150);
    let lies = OlderFault::OtherOperations(at);
    let cases = vec![
        Case::new("older liar", Fault::Older(lies), &[]).bad_from(at),
        Case::new(
            "older with another number",
            Fault::Older(OlderFault::OtherNumber(at)),
            &["wrong_number"],
        )
        .free()
        .bad_from(at),
    ];
    withstand_all(world, cases).await;
}
