//! A new node that is left alone with a hostile peer, and then is not.

use std::sync::Arc;

use honeygraph_chain::BlockNumber;

use super::fault::{Fault, OlderFault};
use super::observe::{check_store, wait_to_see};
use super::peer::ScriptedPeer;
use super::world::World;

/// A fault, and what shows that the node noticed it.
pub(crate) struct Case {
    name: &'static str,
    fault: Fault,
    /// How requests for blocks end, one of these; none where it is not asked for any.
    outcomes: &'static [&'static str],
    /// Whether it costs the peer score.
    costs: bool,
    /// First block that the peer alone cannot bring it to take.
    bad_from: Option<BlockNumber>,
}

impl Case {
    pub(crate) fn new(name: &'static str, fault: Fault, outcomes: &'static [&'static str]) -> Self {
        Self {
            name,
            fault,
            outcomes,
            costs: true,
            bad_from: None,
        }
    }

    pub(crate) fn free(self) -> Self {
        Self { costs: false, ..self }
    }

    pub(crate) fn bad_from(self, block: BlockNumber) -> Self {
        Self {
            bad_from: Some(block),
            ..self
        }
    }
}

/// Leaves a new node alone with the hostile peer, sees that it notices and takes nothing wrong, then lets the
/// honest peer in and sees that the node gets everything.
async fn withstand(world: &World, case: Case) {
    let Case {
        name,
        fault,
        outcomes,
        costs,
        bad_from,
    } = case;
    let voter = world.voter().await;
    let proves_lie = matches!(
        fault,
        Fault::OtherChain(_) | Fault::Older(OlderFault::OtherOperations(_))
    );
    let chain = match fault {
        Fault::OtherChain(at) => world.other_chain(at.distance_from(world.start_block())),
        _ => world.chain.clone(),
    };
    let hostile = ScriptedPeer::start(chain, fault, Some(&voter)).await;
    let gate = world.gate().await;
    let peers = [hostile.url(), gate.url(), voter.url()];
    let node = world.node(name, &peers, &[voter.url()], &["--init-chain"]).await;

    let seen = wait_to_see(&node, name, |seen| {
        let noticed = outcomes.is_empty()
            || outcomes
                .iter()
                .any(|outcome| seen.requests(&hostile.url(), outcome) > 0);
        // What it gave near the head may have cost it something before.
        let is_proven = || {
            let mismatches = seen.admin["counters"]["stateHashMismatches"].as_u64();
            mismatches > Some(0) && seen.peer(&hostile.url())["standing"] == "banned"
        };
        noticed
            && (!costs || seen.score(&hostile.url()) < 0.0)
            && (!proves_lie || is_proven())
            && hostile.asked("capabilities") + hostile.asked("unknown") > 1
    })
    .await;
    if outcomes.is_empty() && !costs && bad_from == Some(world.start_block()) {
        assert_eq!(hostile.asked("blocks"), 0, "{name}");
    }
    if let Some(bad_from) = bad_from {
        let height = seen.admin["position"]["stateHeight"].as_u64().unwrap();
        assert!(height < bad_from.get(), "{name}: {height}");
        let mode = seen.admin["sync"]["mode"].as_str().unwrap();
        assert!(["fill", "starved"].contains(&mode), "{name}: {mode}");
    }

    gate.open();
    let status = node.wait_complete(world.start_block(), world.head()).await;
    let position = status.position.unwrap();
    assert_eq!(
        position.state_block_hash,
        world.chain.last().map(|last| last.block.hash()),
        "{name}"
    );
    assert_eq!(position.halted, None, "{name}");
    let last_anchor = world.last_anchor();
    node.wait_for("the last checkpoint to be final", |status| {
        status.position.as_ref().unwrap().irreversible == Some(last_anchor)
    })
    .await;
    let seen = wait_to_see(&node, name, |seen| seen.peer(&gate.url())["isAlive"] == true).await;
    assert!(
        seen.score(&gate.url()) > -9.0,
        "{name}: the honest peer is blamed: {:#}",
        seen.admin["peers"]
    );
    assert_eq!(seen.peer(&gate.url())["standing"], "good", "{name}");
    if costs {
        assert!(seen.score(&hostile.url()) < seen.score(&gate.url()), "{name}");
    }
    node.stop().await;
    assert_eq!(
        check_store(&world.directory(name), &world.chain).await,
        Some(world.head()),
        "{name}"
    );
}

/// Runs cases at the same time.
pub(crate) async fn withstand_all(world: World, cases: Vec<Case>) {
    let world = Arc::new(world);
    let mut running = tokio::task::JoinSet::new();
    for case in cases {
        let world = Arc::clone(&world);
        running.spawn(async move { withstand(&world, case).await });
    }
    let mut failed = 0;
    while let Some(ended) = running.join_next().await {
        failed += u32::from(ended.is_err());
    }
    assert_eq!(failed, 0, "scenarios failed, see above");
}
