use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{NOW, assert_screen, node, sights, sights_of_a_viewer};
use crate::paint::Paint;
use crate::sight::AgentFault;

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn shown(sights: &[NodeSight]) -> String {
    screen(
        &report(sights, &[], &[]),
        "in namespace default",
        Paint::PLAIN,
        now(),
    )
}

/// A node at the head with an agent that says this beside what is well.
fn with_answer(changes: Value) -> Vec<NodeSight> {
    let mut sight = sights().swap_remove(0);
    let mut answer = json!({
        "head": 100, "stateHeight": 100, "networkHead": 100, "lag": 0, "mode": "follow",
        "gaps": {"count": 0, "totalMissing": 0}, "peers": [{"isAlive": true}],
        "checkpoint": {"blockNum": 90, "blockHash": "Qm1", "stateHash": "Qm2", "agreement": "agreed"},
    });
    if let (Some(answer), Value::Object(changes)) = (answer.as_object_mut(), changes) {
        answer.extend(changes);
    }
    sight.agents[0].answer = Ok(serde_json::from_value(answer).expect("an answer"));
    vec![sight]
}

fn problems_of(sights: &[NodeSight]) -> Vec<(Severity, String)> {
    let problems = report(sights, &[], &[]).problems;
    problems
        .into_iter()
        .map(|problem| (problem.severity, problem.what))
        .collect()
}

#[test]
fn a_screen_of_all_nodes() {
    assert_screen("status", &shown(&sights()));
}

#[test]
fn a_screen_where_nothing_is_wrong() {
    assert_screen("status-well", &shown(&sights()[..1]));
}

#[test]
fn somebody_who_may_not_reach_pods_sees_what_the_operator_saw() {
    let sights = sights_of_a_viewer();
    assert_screen("status-viewer", &shown(&sights));
    assert!(!report(&sights, &[], &[]).agents_asked);
}

#[test]
fn a_screen_without_nodes_says_where_to_look() {
    assert!(shown(&[]).contains("no HoneygraphNode in namespace default"));
}

#[test]
fn nodes_of_several_namespaces_are_told_apart() {
    let mut sights = sights();
    sights[1].node.metadata.namespace = Some("other".to_owned());
    let shown = shown(&sights);
    assert!(
        shown.contains("other/asia-agent-0") && shown.contains("default/america"),
        "{shown}"
    );
}

#[test]
fn agents_say_what_the_operator_has_not_seen_yet() {
    for (changes, severity, words) in [
        (json!({"mode": "halted"}), Severity::Failed, "has stopped"),
        (json!({"mode": "partitioned"}), Severity::Failed, "cut off"),
        (json!({"mode": "starved"}), Severity::Failed, "nobody has"),
        (
            json!({"networkHead": null, "lag": null}),
            Severity::Failed,
            "no head",
        ),
        (json!({"lag": 21}), Severity::Warning, "21 blocks behind"),
        (
            json!({"gaps": {"count": 1, "totalMissing": 1}}),
            Severity::Warning,
            "misses 1 block",
        ),
        (
            json!({"peers": [{"isAlive": false}]}),
            Severity::Warning,
            "none of its 1 peer answers",
        ),
        (
            json!({"checkpoint": {"blockNum": 9, "blockHash": "a", "stateHash": "b", "agreement": "conflict"}}),
            Severity::Failed,
            "contradict block 9",
        ),
        (
            json!({"dgraph": {"connected": false, "lastError": "no leader"}}),
            Severity::Failed,
            "no leader",
        ),
        (
            json!({"dgraph": {"connected": true, "mismatch": {"block": 7}}}),
            Severity::Failed,
            "contradicts the log at block 7",
        ),
    ] {
        let problems = problems_of(&with_answer(changes.clone()));
        assert_eq!(problems.len(), 1, "{changes}: {problems:?}");
        assert_eq!(problems[0].0, severity, "{changes}");
        assert!(problems[0].1.contains(words), "{changes}: {problems:?}");
    }
    assert_eq!(problems_of(&with_answer(json!({}))), []);
    assert_eq!(problems_of(&with_answer(json!({"lag": 20}))), []);
    let at_the_head = json!({"lag": 2, "gaps": {"count": 1, "totalMissing": 2}});
    assert_eq!(problems_of(&with_answer(at_the_head)), []);
}

/// The operator says it already, in its condition.
#[test]
fn nothing_is_said_twice() {
    let problems = problems_of(&sights());
    let about_the_lag = problems.iter().filter(|(_, what)| what.contains("behind"));
    assert_eq!(about_the_lag.count(), 1, "{problems:?}");
    let about_the_image = problems
        .iter()
        .filter(|(_, what)| what.contains("ImagePullBackOff"));
    assert_eq!(about_the_image.count(), 1, "{problems:?}");
}

#[test]
fn two_states_at_one_anchor_are_found() {
    let mut sights = with_answer(json!({}));
    let mut other = with_answer(json!({
        "checkpoint": {"blockNum": 90, "blockHash": "Qm1", "stateHash": "Qm3", "agreement": "agreed"},
    }))
    .swap_remove(0);
    other.agents[0].name = "asia-agent-0".to_owned();
    sights.push(other);
    let problems = problems_of(&sights);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0]
            .1
            .contains("different states at block 90: Qm2 and Qm3"),
        "{problems:?}"
    );
    // Another network has other blocks.
    sights[1].node.spec.network = "spkcc".to_owned();
    assert_eq!(problems_of(&sights), []);
}

#[test]
fn the_worst_comes_first() {
    let severities: Vec<_> = problems_of(&sights())
        .into_iter()
        .map(|(severity, _)| severity)
        .collect();
    assert!(severities.is_sorted(), "{severities:?}");
    assert_eq!(severities.first(), Some(&Severity::Failed));
}

#[test]
fn a_node_that_nobody_looked_at_is_a_reason_to_look_for_the_operator() {
    let new = NodeSight {
        node: node("new", "eu"),
        agents: vec![AgentSight {
            name: "new-agent-0".to_owned(),
            answer: Err(AgentFault::NoPod {
                pod: "new-agent-0-0".to_owned(),
            }),
        }],
    };
    let problems = report(&[new], &[], &[]).problems;
    assert!(
        problems.iter().any(|problem| problem.hint.contains("doctor")),
        "{problems:?}"
    );
}

#[test]
fn what_is_not_understood_is_named() {
    let report = report(&[], &[], &["default/later".to_owned()]);
    let shown = screen(&report, "in namespace default", Paint::PLAIN, now());
    assert!(
        shown.contains("later") && shown.contains("another version"),
        "{shown}"
    );
}

#[test]
fn checkpoints_are_shown_until_they_are_ready() {
    let of_phase = |phase: &str| -> Checkpoint {
        serde_json::from_value(json!({
            "apiVersion": "honeygraph.io/v1alpha1",
            "kind": "Checkpoint",
            "metadata": {"name": "america-1", "namespace": "default"},
            "spec": {"nodeRef": {"name": "america"}},
            "status": {"phase": phase, "block": 1},
        }))
        .expect("a checkpoint")
    };
    let sights = with_answer(json!({}));
    assert!(report(&sights, &[of_phase("Ready")], &[]).checkpoints.is_empty());
    assert_eq!(
        report(&sights, &[of_phase("Verifying")], &[]).checkpoints.len(),
        1
    );
    let failed = report(&sights, &[of_phase("Failed")], &[]);
    assert_eq!(failed.problems.len(), 1);
    assert_eq!(sights[0].node.name_any(), failed.problems[0].node);
}

/// Names of fields are a promise to programs.
#[test]
fn the_report_as_json() {
    let json = serde_json::to_string_pretty(&report(&sights(), &[], &[])).expect("JSON");
    assert_screen("status-json", &json);
}
