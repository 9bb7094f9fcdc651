use honeygraph_crds::NodePhase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::super::apply::Waiting;
use super::super::observe::{ObservedAgent, Obstacle};
use super::super::status::{Findings, status};
use super::super::validate::identity;
use super::*;
use crate::agent::{AgentError, AgentStatus};

/// An agent that stands at the head, with these fields of its status.
fn agent(changes: Value) -> ObservedAgent {
    let mut sync = json!({
        "head": 100, "stateHeight": 100, "networkHead": 100, "lag": 0, "lib": 90, "mode": "follow",
        "gaps": {"count": 0, "totalMissing": 0},
        "peers": [{"isAlive": true}, {"isAlive": false}],
        "checkpoint": {"blockNum": 90, "blockHash": "Qm1", "stateHash": "Qm2", "agreement": "agreed"},
    });
    if let (Some(sync), Value::Object(changes)) = (sync.as_object_mut(), changes) {
        sync.extend(changes);
    }
    let answer =
        json!({"sessionId": "s", "network": "dlux", "peerId": "eu-agent-0", "alive": true, "sync": sync});
    let answer: AgentStatus = serde_json::from_value(answer).expect("a status");
    ObservedAgent {
        name: "eu-agent-0".to_owned(),
        ready: true,
        answer: Some(Ok(answer)),
    }
}

struct Seen {
    status: honeygraph_crds::HoneygraphNodeStatus,
}

impl Seen {
    fn condition(&self, kind: &str) -> &Condition {
        self.status
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .expect("the condition")
    }

    /// Status and reason of a condition.
    fn is(&self, kind: &str) -> (&str, &str) {
        let condition = self.condition(kind);
        (&condition.status, &condition.reason)
    }
}

fn seen(node: &HoneygraphNode, findings: &Findings<'_>) -> Seen {
    let now = Timestamp::from_second(1_700_000_000).expect("a time");
    Seen {
        status: status(node, &identity(node), findings, now),
    }
}

fn applied(agents: &[ObservedAgent]) -> Seen {
    seen(
        &embedded("eu"),
        &Findings::Applied {
            waiting: &[],
            obstacles: &[],
            agents,
            has_dgraph: false,
        },
    )
}

#[test]
fn a_node_at_the_head_is_ready() {
    let seen = applied(&[agent(json!({}))]);
    assert_eq!(seen.status.phase, Some(NodePhase::Ready));
    assert_eq!(seen.is("Ready"), ("True", "Serving"));
    assert_eq!(seen.is("Synced"), ("True", "AtTheHead"));
    assert_eq!(seen.is("StateVerified"), ("True", "Agreed"));
    assert_eq!(seen.is("ForkSafe").0, "True");
    assert_eq!(seen.is("Stalled").0, "False");
    assert_eq!(seen.status.lag, Some(0));
    assert_eq!(
        seen.status.peers.map(|peers| (peers.alive, peers.known)),
        Some((1, 2))
    );
    assert_eq!(seen.status.observed_generation, Some(3));
    assert_eq!(seen.condition("Ready").observed_generation, Some(3));
    assert!(
        seen.status
            .selector
            .is_some_and(|selector| selector.contains("honeygraph.io/node=eu"))
    );
}

#[test]
fn serving_and_behind_is_syncing() {
    let seen = applied(&[agent(
        json!({"stateHeight": 10, "lag": 90, "gaps": {"count": 1, "totalMissing": 5}}),
    )]);
    assert_eq!(seen.status.phase, Some(NodePhase::Syncing));
    assert_eq!(seen.is("Synced"), ("False", "Behind"));
    assert_eq!(seen.status.missing_blocks, Some(5));
}

#[test]
fn what_has_not_come_yet_is_no_gap() {
    let behind = |missing: u64| {
        applied(&[agent(
            json!({"lag": 1, "gaps": {"count": 1, "totalMissing": missing}}),
        )])
    };
    assert_eq!(behind(1).is("Synced"), ("True", "AtTheHead"));
    assert_eq!(behind(2).is("Synced"), ("False", "Gaps"));
}

#[test]
fn a_state_stays_verified_while_votes_on_the_next_checkpoint_come_in() {
    let undecided = |lib: u64| {
        let checkpoint =
            json!({"blockNum": 900, "blockHash": "Qm1", "stateHash": "Qm2", "agreement": "undecided"});
        applied(&[agent(json!({"checkpoint": checkpoint, "lib": lib}))])
    };
    assert_eq!(undecided(800).is("StateVerified"), ("True", "Agreed"));
    assert_eq!(undecided(699).is("StateVerified"), ("Unknown", "Undecided"));
}

#[test]
fn a_node_that_hears_nothing_is_not_in_sync() {
    let seen = applied(&[agent(json!({"networkHead": null, "lag": null}))]);
    assert_eq!(seen.is("Synced"), ("False", "NoNetworkHead"));
}

#[test]
fn the_worst_agent_decides() {
    let mut second = agent(json!({"mode": "halted"}));
    second.name = "eu-agent-1".to_owned();
    let seen = applied(&[agent(json!({})), second]);
    assert_eq!(seen.is("ForkSafe"), ("False", "Halted"));
    let conflict = json!({"blockNum": 90, "blockHash": "Qm1", "stateHash": "Qm2", "agreement": "conflict"});
    assert_eq!(
        applied(&[agent(json!({"checkpoint": conflict}))]).is("StateVerified"),
        ("False", "Conflict")
    );
}

#[test]
fn a_node_with_dgraph_is_ready_when_its_cursor_was_read() {
    let node = node("eu", json!({}));
    let with = |dgraph: Value| {
        let agents = [agent(json!({"dgraph": dgraph}))];
        let findings = Findings::Applied {
            waiting: &[],
            obstacles: &[],
            agents: &agents,
            has_dgraph: true,
        };
        let seen = seen(&node, &findings);
        let (status, reason) = seen.is("Ready");
        (status.to_owned(), reason.to_owned())
    };
    assert_eq!(with(json!(null)).1, "WaitingForDgraph");
    assert_eq!(with(json!({"connected": true})).1, "WaitingForDgraph");
    assert_eq!(
        with(json!({"connected": true, "appliedBlock": 9, "mismatch": {"block": 9}})).1,
        "DgraphMismatch"
    );
    assert_eq!(with(json!({"connected": true, "appliedBlock": 9})).0, "True");
}

#[test]
fn what_keeps_a_pod_from_running_is_said() {
    let agents = [ObservedAgent {
        name: "eu-agent-0".to_owned(),
        ready: false,
        answer: None,
    }];
    let waiting = [Waiting {
        reason: "WaitingForAgents",
        message: "waiting".to_owned(),
    }];
    let obstacle = |needs_a_person| Obstacle {
        pod: "eu-agent-0-0".to_owned(),
        reason: "ImagePullBackOff".to_owned(),
        message: "no such image".to_owned(),
        needs_a_person,
    };
    let look = |obstacles: &[Obstacle]| {
        seen(
            &embedded("eu"),
            &Findings::Applied {
                waiting: &waiting,
                obstacles,
                agents: &agents,
                has_dgraph: false,
            },
        )
    };
    let stuck = look(&[obstacle(true)]);
    assert_eq!(stuck.is("Stalled"), ("True", "ImagePullBackOff"));
    assert_eq!(stuck.is("Ready"), ("False", "ImagePullBackOff"));
    assert_eq!(stuck.status.phase, Some(NodePhase::Stalled));
    let passing = look(&[obstacle(false)]);
    assert_eq!(passing.is("Stalled").0, "False");
    let starting = look(&[]);
    assert_eq!(starting.is("Reconciling"), ("True", "WaitingForAgents"));
    assert_eq!(starting.is("Synced"), ("Unknown", "NoAnswer"));
    assert_eq!(starting.status.phase, Some(NodePhase::Progressing));
}

#[test]
fn what_was_seen_last_stays_while_nothing_is_looked_at() {
    let mut node = embedded("eu");
    node.status = Some(applied(&[agent(json!({}))]).status);
    let suspended = seen(&node, &Findings::Suspended);
    assert_eq!(suspended.status.phase, Some(NodePhase::Suspended));
    assert_eq!(suspended.status.head, Some(100));
    assert_eq!(suspended.is("Ready"), ("True", "Serving"));
    assert_eq!(suspended.is("Reconciling"), ("False", "Suspended"));
}

#[test]
fn a_ready_node_that_loses_its_agent_is_degraded() {
    let mut node = embedded("eu");
    node.status = Some(applied(&[agent(json!({}))]).status);
    let lost = ObservedAgent {
        name: "eu-agent-0".to_owned(),
        ready: true,
        answer: Some(Err(AgentError::Unauthorized)),
    };
    let seen = seen(
        &node,
        &Findings::Applied {
            waiting: &[],
            obstacles: &[],
            agents: &[lost],
            has_dgraph: false,
        },
    );
    assert_eq!(seen.status.phase, Some(NodePhase::Degraded));
    assert_eq!(seen.is("Ready"), ("False", "AgentUnreachable"));
}
