use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;

use super::*;
use crate::fixtures::{assert_screen, findings};
use crate::paint::Paint;
use crate::sight::AgentFault;

/// The findings about the node that is well.
fn well() -> Findings {
    let mut findings = findings();
    if let Ok(nodes) = &mut findings.nodes {
        nodes.retain(|node| node.node.name_any() == "america");
    }
    findings
}

/// The check that speaks of something.
fn check(findings: &Findings, words: &str) -> Check {
    let report = examine(findings);
    let mut checks = report.sections.into_iter().flat_map(|section| section.checks);
    checks
        .find(|check| check.what.contains(words))
        .unwrap_or_else(|| {
            panic!(
                "no check says {words}:\n{}",
                screen(&examine(findings), Paint::PLAIN)
            )
        })
}

fn operator(findings: &mut Findings) -> &mut OperatorFindings {
    &mut findings.operators.as_mut().expect("operators")[0]
}

fn first_node(findings: &mut Findings) -> &mut NodeFindings {
    &mut findings.nodes.as_mut().expect("nodes")[0]
}

#[test]
fn a_screen_of_an_installation_with_troubles() {
    let report = examine(&findings());
    assert_screen("doctor", &screen(&report, Paint::PLAIN));
    assert!(!report.is_healthy());
}

#[test]
fn a_good_installation_is_healthy() {
    let report = examine(&well());
    assert_screen("doctor-well", &screen(&report, Paint::PLAIN));
    assert!(report.is_healthy() && report.count(Verdict::Warning) == 0);
}

#[test]
fn an_old_kubernetes_fails() {
    let mut findings = well();
    if let Ok(version) = &mut findings.version {
        version.minor = "30+".to_owned();
    }
    assert_eq!(check(&findings, "Kubernetes").verdict, Verdict::Failed);
}

#[test]
fn definitions_are_there_served_and_of_this_version() {
    let mut missing = well();
    if let Ok(definitions) = &mut missing.definitions {
        definitions.remove(1);
    }
    let missing = check(&missing, "is not installed");
    assert_eq!(missing.verdict, Verdict::Failed);
    assert!(
        missing.what.starts_with("checkpoints.honeygraph.io"),
        "{missing:?}"
    );

    let mut older = well();
    if let Ok(definitions) = &mut older.definitions {
        definitions[0].spec.names.short_names = Some(vec!["hg".to_owned()]);
    }
    let older = check(&older, "another version");
    assert_eq!(older.verdict, Verdict::Warning);
    assert!(older.what.contains("spec.names.shortNames"), "{older:?}");

    let mut unserved = well();
    if let Ok(definitions) = &mut unserved.definitions {
        definitions[0].spec.versions[0].served = false;
    }
    assert_eq!(check(&unserved, "does not serve").verdict, Verdict::Failed);
}

#[test]
fn the_operator_runs_and_one_leads() {
    let mut none = well();
    none.operators = Ok(Vec::new());
    assert_eq!(check(&none, "no operator").verdict, Verdict::Failed);

    for (ready, verdict) in [(0, Verdict::Failed), (1, Verdict::Warning), (2, Verdict::Ok)] {
        let mut findings = well();
        if let Some(status) = &mut operator(&mut findings).deployment.status {
            status.ready_replicas = Some(ready);
        }
        assert_eq!(check(&findings, &format!("{ready} of 2 pods")).verdict, verdict);
    }

    let mut silent = well();
    silent.now = silent
        .now
        .saturating_add(SignedDuration::from_secs(60))
        .expect("a time");
    assert_eq!(check(&silent, "last heard of").verdict, Verdict::Failed);

    let mut without = well();
    operator(&mut without).lease = Ok(None);
    assert_eq!(check(&without, "none of its pods leads").verdict, Verdict::Failed);

    let mut older = well();
    older_version(&mut older);
    assert_eq!(check(&older, "version 0.0.9").verdict, Verdict::Warning);
}

fn older_version(findings: &mut Findings) {
    let labels = operator(findings).deployment.labels_mut();
    labels.insert("app.kubernetes.io/version".to_owned(), "0.0.9".to_owned());
}

#[test]
fn rights_that_are_missing_are_named() {
    let mut findings = well();
    operator(&mut findings).lacking = Ok(RIGHTS.iter().flat_map(Rule::rights).collect());
    let check = check(&findings, "may not");
    assert_eq!(check.verdict, Verdict::Failed);
    assert!(
        check.what.contains("get honeygraphnodes.honeygraph.io") && check.what.contains("more"),
        "{check:?}"
    );
}

/// Somebody with few rights gets warnings, not failures.
#[test]
fn what_may_not_be_looked_at_is_a_warning() {
    let mut findings = well();
    let forbidden = || Unseen::Forbidden("look".to_owned());
    findings.definitions = Err(forbidden());
    operator(&mut findings).lease = Err(forbidden());
    operator(&mut findings).lacking = Err(forbidden());
    let node = first_node(&mut findings);
    node.pods = Err(forbidden());
    node.claims = Err(forbidden());
    node.agents[0].sight.answer = Err(AgentFault::Forbidden);
    let report = examine(&findings);
    assert!(report.is_healthy());
    assert_eq!(report.count(Verdict::Warning), 6);
    let without_operators = Findings {
        operators: Err(forbidden()),
        nodes: Err(forbidden()),
        ..findings
    };
    assert!(examine(&without_operators).is_healthy());
}

#[test]
fn a_server_that_does_not_answer_is_a_failure() {
    let mut findings = well();
    findings.nodes = Err(Unseen::Failed("etcdserver: no leader".to_owned()));
    assert_eq!(check(&findings, "no leader").verdict, Verdict::Failed);
}

#[test]
fn clocks_are_compared_with_the_api_server() {
    for (seconds, verdict) in [
        (0, Verdict::Ok),
        (-5, Verdict::Ok),
        (6, Verdict::Warning),
        (-60, Verdict::Warning),
        (61, Verdict::Failed),
        (i64::MIN, Verdict::Failed),
    ] {
        let mut findings = well();
        first_node(&mut findings).agents[0].ahead = Some(SignedDuration::from_secs(seconds));
        assert_eq!(check(&findings, "clock").verdict, verdict, "{seconds}");
    }
    let mut silent = well();
    first_node(&mut silent).agents[0].ahead = None;
    assert_eq!(check(&silent, "says no time").verdict, Verdict::Warning);
}

#[test]
fn dgraph_is_judged_by_what_agents_say() {
    let judged = |change: fn(&mut honeygraph_operator::agent::DgraphStatus), words: &str| {
        let mut findings = well();
        let answer = first_node(&mut findings).agents[0]
            .sight
            .answer
            .as_mut()
            .expect("an answer");
        change(answer.dgraph.as_mut().expect("a Dgraph"));
        check(&findings, words).verdict
    };
    assert_eq!(judged(|_| {}, "Dgraph holds all"), Verdict::Ok);
    assert_eq!(
        judged(|dgraph| dgraph.lag_blocks = Some(201), "201 blocks behind"),
        Verdict::Warning
    );
    assert_eq!(
        judged(|dgraph| dgraph.connected = false, "does not answer"),
        Verdict::Failed
    );
    assert_eq!(
        judged(|dgraph| dgraph.applied_block = None, "no block yet"),
        Verdict::Warning
    );
}

#[test]
fn pods_that_are_missing_and_specs_that_nobody_read_are_seen() {
    let mut findings = well();
    let node = first_node(&mut findings);
    node.pods = Ok(Vec::new());
    node.node.metadata.generation = Some(4);
    assert_eq!(check(&findings, "0 of 1 agent pod").verdict, Verdict::Failed);
    assert_eq!(check(&findings, "newest spec").verdict, Verdict::Warning);
    first_node(&mut findings).node.status = None;
    assert_eq!(
        check(&findings, "has not looked at it yet").verdict,
        Verdict::Failed
    );
}

#[test]
fn no_node_is_a_warning_and_one_of_another_version_a_failure() {
    let mut findings = well();
    findings.nodes = Ok(Vec::new());
    assert_eq!(check(&findings, "no HoneygraphNode").verdict, Verdict::Warning);
    findings.not_understood = vec!["default/later".to_owned()];
    assert_eq!(check(&findings, "default/later").verdict, Verdict::Failed);
}
