//! The dashboard of agents for Grafana: one source for the `ConfigMap` of a node and for `deploy/grafana/honeygraph.json`.

use serde_json::{Value, json};

use crate::alerts::Scope;
use crate::node::build::Fingerprint;

/// Columns of Grafana's grid, and the size of a panel in it.
const COLUMNS: usize = 24;
const WIDTH: usize = 8;
const HEIGHT: usize = 7;

/// Version of Grafana's model of a dashboard; newer ones read it too.
const SCHEMA_VERSION: u32 = 39;

/// A panel: what it shows, its unit, and its queries with their legends. `AGENTS` stands for the matchers.
struct Panel {
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    queries: &'static [(&'static str, &'static str)],
}

const PANELS: &[Panel] = &[
    Panel {
        title: "Blocks behind the network",
        description: "0 to 2 while it follows. Says nothing where no new head is heard of.",
        unit: "none",
        queries: &[("honeygraph_sync_lag_blocks{AGENTS}", "{{instance}}")],
    },
    Panel {
        title: "Age of the newest head",
        description: "Time since anybody told of a new head; blocks come every 3 seconds.",
        unit: "s",
        queries: &[(
            "time() - honeygraph_network_head_timestamp_seconds{AGENTS}",
            "{{instance}}",
        )],
    },
    Panel {
        title: "Heads",
        description: "Head of the network, applied state, last irreversible block.",
        unit: "none",
        queries: &[
            ("max(honeygraph_network_head_block{AGENTS})", "network"),
            ("honeygraph_state_height_block{AGENTS}", "state {{instance}}"),
            (
                "honeygraph_irreversible_block{AGENTS}",
                "irreversible {{instance}}",
            ),
        ],
    },
    Panel {
        title: "Gaps",
        description: "Blocks missing in the wanted range, and how many of them are in one piece.",
        unit: "none",
        queries: &[
            ("honeygraph_missing_blocks{AGENTS}", "missing {{instance}}"),
            ("honeygraph_largest_gap_blocks{AGENTS}", "largest {{instance}}"),
        ],
    },
    Panel {
        title: "Blocks a second",
        description: "Blocks made durable, and those of them that peers sent. A network makes a third of a block a second.",
        unit: "none",
        queries: &[
            (
                "rate(honeygraph_committed_blocks_total{AGENTS}[5m])",
                "committed {{instance}}",
            ),
            (
                r#"rate(honeygraph_sync_blocks_total{AGENTS,outcome="committed"}[5m])"#,
                "of peers {{instance}}",
            ),
        ],
    },
    Panel {
        title: "Sources and peers",
        description: "Honeycombs connected, and known peers by state.",
        unit: "none",
        queries: &[
            ("sum(honeygraph_sources_connected{AGENTS})", "honeycombs"),
            ("sum by (state) (honeygraph_peers{AGENTS})", "{{state}}"),
        ],
    },
    Panel {
        title: "Requests to peers",
        description: "By how they ended.",
        unit: "reqps",
        queries: &[(
            "sum by (outcome) (rate(honeygraph_peer_requests_total{AGENTS}[5m]))",
            "{{outcome}}",
        )],
    },
    Panel {
        title: "Verification failures",
        description: "What did not prove to be true, in an hour.",
        unit: "none",
        queries: &[
            (
                "increase(honeygraph_state_hash_mismatches_total{AGENTS}[1h])",
                "state hash {{instance}}",
            ),
            (
                "increase(honeygraph_divergences_total{AGENTS}[1h])",
                "voters' other chain {{instance}}",
            ),
            (
                r#"increase(honeygraph_sync_blocks_total{AGENTS,outcome="refused"}[1h])"#,
                "blocks of peers {{instance}}",
            ),
            (
                "increase(honeygraph_sources_set_aside_total{AGENTS}[1h])",
                "honeycombs set aside {{instance}}",
            ),
        ],
    },
    Panel {
        title: "Forks",
        description: "Forks above the last irreversible block, honeycombs on another one, reorganizations in an hour.",
        unit: "none",
        queries: &[
            ("honeygraph_forks{AGENTS}", "forks {{instance}}"),
            ("honeygraph_fork_divergence{AGENTS}", "honeycombs {{instance}}"),
            (
                "increase(honeygraph_reorgs_total{AGENTS}[1h])",
                "reorganizations {{instance}}",
            ),
        ],
    },
    Panel {
        title: "Dgraph behind its log",
        description: "Blocks that are not yet in Dgraph.",
        unit: "none",
        queries: &[("honeygraph_dgraph_lag_blocks{AGENTS}", "{{instance}}")],
    },
    Panel {
        title: "Transactions of Dgraph",
        description: "Steps of the projection by how they ended.",
        unit: "ops",
        queries: &[(
            "sum by (outcome) (rate(honeygraph_dgraph_transactions_total{AGENTS}[5m]))",
            "{{outcome}}",
        )],
    },
    Panel {
        title: "Store",
        description: "Bytes on disk.",
        unit: "bytes",
        queries: &[("honeygraph_store_bytes{AGENTS}", "{{instance}}")],
    },
    Panel {
        title: "Commits, 99 of 100",
        description: "Time that all but the slowest one of a hundred commits take.",
        unit: "s",
        queries: &[(
            "histogram_quantile(0.99, rate(honeygraph_commit_duration_seconds_bucket{AGENTS}[5m]))",
            "{{instance}}",
        )],
    },
    Panel {
        title: "Public API, answers",
        description: "By status, and those that were refused because their address sent too many.",
        unit: "reqps",
        queries: &[
            (
                r#"sum by (status) (rate(honeygraph_http_requests_total{AGENTS,listener="public"}[5m]))"#,
                "{{status}}",
            ),
            (
                "sum(rate(honeygraph_http_rate_limited_total{AGENTS}[5m]))",
                "too many",
            ),
        ],
    },
    Panel {
        title: "Public API, 99 of 100",
        description: "Time until the head of the answer, of all but the slowest one of a hundred.",
        unit: "s",
        queries: &[(
            "histogram_quantile(0.99, sum by (le, instance) (rate(honeygraph_http_request_duration_seconds_bucket{AGENTS}[5m])))",
            "{{instance}}",
        )],
    },
];

/// The dashboard of some agents, as JSON.
pub fn dashboard(scope: &Scope) -> String {
    let (title, uid) = match scope {
        Scope::EveryAgent => ("Honeygraph".to_owned(), "honeygraph".to_owned()),
        Scope::Node { namespace, name } => {
            let title = format!("{namespace}/{name}");
            // Grafana takes 40 characters.
            let mut fingerprint = Fingerprint::default();
            fingerprint.add("node", &title);
            (
                format!("Honeygraph: {title}"),
                format!("honeygraph-{}", fingerprint.finish()),
            )
        }
    };
    let panels: Vec<_> = PANELS
        .iter()
        .enumerate()
        .map(|(position, shown)| panel(scope, position, shown))
        .collect();
    let made = json!({
        "title": title,
        "uid": uid,
        "description": "Where agents stand, what they miss, and whom they hear from.",
        "tags": ["honeygraph"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": true,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
            {
                "name": "instance",
                "label": "Agent",
                "type": "query",
                "datasource": datasource(),
                "query": scope.fill("label_values(up{AGENTS}, instance)"),
                "refresh": 2,
                "multi": true,
                "includeAll": true,
                "allValue": ".*",
                "current": {"text": "All", "value": "$__all"},
            },
        ]},
        "panels": panels,
    });
    format!("{made:#}\n")
}

fn panel(scope: &Scope, position: usize, shown: &Panel) -> Value {
    let a_row = COLUMNS / WIDTH;
    let targets: Vec<_> = ('A'..='Z')
        .zip(shown.queries)
        .map(|(id, (expression, legend))| {
            let expression = expression.replace("AGENTS", r#"AGENTS,instance=~"$instance""#);
            json!({
                "refId": id.to_string(),
                "datasource": datasource(),
                "expr": scope.fill(&expression),
                "legendFormat": legend,
            })
        })
        .collect();
    json!({
        "id": position + 1,
        "type": "timeseries",
        "title": shown.title,
        "description": shown.description,
        "datasource": datasource(),
        "gridPos": {
            "x": position % a_row * WIDTH,
            "y": position / a_row * HEIGHT,
            "w": WIDTH,
            "h": HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": shown.unit}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
    })
}

/// The Prometheus that is chosen in the dashboard.
fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::committed::{assert_committed, assert_metrics_exist, metrics_in};

    fn of_node(namespace: &str, name: &str) -> Value {
        let scope = Scope::Node {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        serde_json::from_str(&dashboard(&scope)).expect("JSON")
    }

    #[test]
    fn the_dashboard_is_that_of_the_code() {
        assert_committed("deploy/grafana/honeygraph.json", &dashboard(&Scope::EveryAgent));
    }

    #[test]
    fn every_metric_of_the_dashboard_exists() {
        for (expression, _) in PANELS.iter().flat_map(|panel| panel.queries) {
            let named = metrics_in(expression);
            assert!(!named.is_empty(), "{expression}");
            assert_metrics_exist(&named);
        }
    }

    #[test]
    fn dashboards_of_two_nodes_are_two() {
        let made = [("a", "b-c"), ("a-b", "c"), ("a", "c")].map(|(namespace, name)| of_node(namespace, name));
        let uids: BTreeSet<_> = made.iter().filter_map(|made| made["uid"].as_str()).collect();
        assert_eq!(uids.len(), 3);
        assert!(uids.iter().all(|uid| uid.len() <= 40), "{uids:?}");
    }

    #[test]
    fn the_dashboard_of_a_node_shows_its_agents_alone() {
        let made = of_node("replicas", "europe");
        let panels = made["panels"].as_array().expect("panels");
        for target in panels
            .iter()
            .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        {
            let expression = target["expr"].as_str().expect("an expression");
            let scoped = r#"{job="honeygraph",namespace="replicas",node="europe",instance=~"$instance""#;
            assert_eq!(
                expression.matches(scoped).count(),
                expression.matches('{').count(),
                "{expression}"
            );
        }
    }
}
