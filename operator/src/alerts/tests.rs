//! The rule files are what the code makes, and every alert has a runbook, tests, and metrics that exist.

use super::*;
use crate::committed::{assert_committed, assert_metrics_exist, metrics_in, read};

const ON_AGENTS: &str = "\
# Alerts on the metrics of agents (docs/metrics.md), for Prometheus. Each has a section in docs/runbooks.md. Made from
# operator/src/alerts; a test compares.
#
# The job of the agents is called honeygraph, as in prometheus.yml beside this file. Test:
#   promtool check rules honeygraph.rules.yml && promtool test rules honeygraph.rules.test.yml
";

const ON_THE_OPERATOR: &str = "\
# Alerts on the metrics of the operator (docs/operator.md), for Prometheus. Each has a section in docs/runbooks.md. Made from
# operator/src/alerts; a test compares.
#
# The job of the operator is called honeygraph-operator, and its labels are kept (honor_labels). The chart installs the
# same rules.
";

fn agents() -> RuleFile {
    on_agents(&Scope::EveryAgent, &AlertThresholds::default())
}

fn rules() -> Vec<Rule> {
    [agents(), on_the_operator()]
        .into_iter()
        .flat_map(|file| file.groups)
        .flat_map(|group| group.rules)
        .collect()
}

#[test]
fn the_rule_files_are_those_of_the_code() {
    let file =
        |header: &str, rules: &RuleFile| format!("{header}{}", serde_saphyr::to_string(rules).expect("YAML"));
    assert_committed(
        "deploy/prometheus/honeygraph.rules.yml",
        &file(ON_AGENTS, &agents()),
    );
    // Helm takes no file from outside a chart.
    for path in [
        "deploy/prometheus/honeygraph-operator.rules.yml",
        "charts/honeygraph/files/operator.rules.yml",
    ] {
        assert_committed(path, &file(ON_THE_OPERATOR, &on_the_operator()));
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let page = read("docs/runbooks.md");
    let mut sections: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## Honeygraph"))
        .map(|name| format!("Honeygraph{name}"))
        .collect();
    let mut alerts: Vec<_> = rules().iter().map(|rule| rule.alert.to_owned()).collect();
    sections.sort();
    alerts.sort();
    assert_eq!(sections, alerts);
    for rule in rules() {
        let severity = match rule.labels.severity {
            Severity::Critical => "*critical.*",
            Severity::Warning => "*warning.*",
        };
        let beginning = format!("## {}\n\n{severity} ", rule.alert);
        assert!(page.contains(&beginning), "{} is {severity}", rule.alert);
        let anchor = rule.annotations.runbook_url.split('#').nth(1);
        assert_eq!(anchor, Some(rule.alert.to_lowercase().as_str()));
    }
}

#[test]
fn every_alert_is_tested_firing_and_silent() {
    let cases = ["honeygraph", "honeygraph-operator"]
        .map(|file| read(&format!("deploy/prometheus/{file}.rules.test.yml")))
        .concat();
    for rule in rules() {
        for case in ["fires", "is silent ("] {
            let name = format!("  - name: {} {case}", rule.alert);
            assert!(cases.contains(&name), "no case: {name}");
        }
    }
}

#[test]
fn every_metric_of_an_alert_exists() {
    for rule in rules() {
        assert_metrics_exist(&metrics_in(&rule.expr));
    }
}

#[test]
fn no_word_stands_for_something_any_more() {
    for rule in rules() {
        for text in [
            &rule.expr,
            &rule.annotations.summary,
            &rule.annotations.description,
        ] {
            let word = ["AGENTS", "OPERATOR_JOB", "LAG_BLOCKS", "GAP_BLOCKS", "HEAD_AGE"]
                .into_iter()
                .find(|word| text.contains(word));
            assert_eq!(word, None, "{text}");
        }
    }
}

#[test]
fn the_rules_of_a_node_look_at_its_agents_alone() {
    let thresholds = AlertThresholds {
        lag_blocks: 77,
        gap_blocks: 88,
        head_age: "1h30m".to_owned(),
        ..AlertThresholds::default()
    };
    let scope = Scope::Node {
        namespace: "replicas".to_owned(),
        name: "europe".to_owned(),
    };
    let rules: Vec<_> = on_agents(&scope, &thresholds)
        .groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect();
    for rule in &rules {
        let selectors = rule.expr.matches("job=\"honeygraph\"").count();
        let scoped = r#"job="honeygraph",namespace="replicas",node="europe""#;
        assert!(selectors > 0, "{}", rule.expr);
        assert_eq!(rule.expr.matches(scoped).count(), selectors, "{}", rule.expr);
        let metrics = metrics_in(&rule.expr).len() + rule.expr.matches("up{").count();
        // honeygraph_dgraph_up{ was counted twice.
        let twice = rule.expr.matches("_up{").count();
        assert_eq!(metrics - twice, selectors, "{}", rule.expr);
    }
    let expression = |alert: &str| {
        let rule = rules.iter().find(|rule| rule.alert == alert);
        rule.map(|rule| rule.expr.clone()).unwrap_or_default()
    };
    assert!(expression("HoneygraphSyncLag").ends_with("> 77"));
    assert!(expression("HoneygraphLargeGap").ends_with("> 88"));
    assert!(expression("HoneygraphNoSource").contains("> 5400\n"));
}
