//! The alerts on agents. `AGENTS` stands for the matchers of the agents' metrics, and `LAG_BLOCKS`, `GAP_BLOCKS`, `HEAD_AGE`
//! and `HEAD_AGE_SECONDS` for thresholds.

use super::Alert;
use super::Severity::{Critical, Warning};

pub(super) const GROUPS: &[(&str, &[Alert])] = &[
    ("honeygraph-agent", AGENT),
    ("honeygraph-sync", SYNC),
    ("honeygraph-agreement", AGREEMENT),
    ("honeygraph-disk", DISK),
    ("honeygraph-dgraph", DGRAPH),
];

const AGENT: &[Alert] = &[
    Alert {
        name: "HoneygraphAgentDown",
        expression: "up{AGENTS} == 0",
        hold: Some("2m"),
        severity: Critical,
        summary: "The agent {{ $labels.instance }} does not answer",
        description: "Prometheus has not reached its metrics for 2 minutes. Nothing else is known about it.",
    },
    Alert {
        name: "HoneygraphRestarting",
        expression: "resets(honeygraph_committed_blocks_total{AGENTS}[30m]) >= 3 or changes(up{AGENTS}[30m]) >= 6",
        hold: None,
        severity: Warning,
        summary: "The agent {{ $labels.instance }} keeps restarting",
        description: "It started at least three times in 30 minutes.",
    },
    Alert {
        name: "HoneygraphNotReady",
        expression: "up{AGENTS} == 1 unless on (job, instance) honeygraph_state_height_block{AGENTS}",
        hold: Some("15m"),
        severity: Critical,
        summary: "The agent {{ $labels.instance }} has no state",
        description: "It runs and serves nothing: for 15 minutes it has found no checkpoint to start from.",
    },
    Alert {
        name: "HoneygraphHalted",
        expression: "honeygraph_halted{AGENTS} == 1",
        hold: Some("1m"),
        severity: Critical,
        summary: "The agent {{ $labels.instance }} has stopped its commits",
        description: "What arrived contradicts what is final, or cannot be applied. Reads go on; a person has to decide.",
    },
];

const SYNC: &[Alert] = &[
    Alert {
        name: "HoneygraphNoSource",
        expression: "time() - honeygraph_network_head_timestamp_seconds{AGENTS} > HEAD_AGE_SECONDS
or
up{AGENTS} == 1 unless on (job, instance) honeygraph_network_head_timestamp_seconds{AGENTS}",
        hold: Some("5m"),
        severity: Critical,
        summary: "The agent {{ $labels.instance }} hears of no new block",
        description: "No honeycomb and no configured peer has told of a new head for more than HEAD_AGE; blocks come every 3 seconds. Its lag says nothing now.",
    },
    Alert {
        name: "HoneygraphSyncStalled",
        expression: "honeygraph_sync_lag_blocks{AGENTS} > 20 and on (job, instance) changes(honeygraph_state_height_block{AGENTS}[10m]) == 0",
        hold: Some("5m"),
        severity: Critical,
        summary: "The agent {{ $labels.instance }} stands still {{ $value }} blocks behind",
        description: "The network goes on, and no block was applied for 10 minutes.",
    },
    Alert {
        name: "HoneygraphSyncLag",
        expression: "honeygraph_sync_lag_blocks{AGENTS} > LAG_BLOCKS",
        hold: Some("30m"),
        severity: Warning,
        summary: "The agent {{ $labels.instance }} is {{ $value }} blocks behind",
        description: "It has been more than LAG_BLOCKS blocks behind for half an hour.",
    },
    Alert {
        name: "HoneygraphLargeGap",
        expression: "honeygraph_largest_gap_blocks{AGENTS} > GAP_BLOCKS",
        hold: Some("30m"),
        severity: Warning,
        summary: "The agent {{ $labels.instance }} misses {{ $value }} blocks in one piece",
        description: "For half an hour its largest gap has had more than GAP_BLOCKS blocks: what it serves of that time is not there.",
    },
    Alert {
        name: "HoneygraphGapsNotClosing",
        expression: r#"min_over_time(honeygraph_missing_blocks{AGENTS}[30m]) > 0
unless on (job, instance)
sum by (job, instance) (increase(honeygraph_sync_blocks_total{AGENTS,outcome="committed"}[30m])) > 0"#,
        hold: Some("10m"),
        severity: Warning,
        summary: "The agent {{ $labels.instance }} misses {{ $value }} blocks and gets none",
        description: "Blocks have been missing for 30 minutes, and peers gave none of them.",
    },
    Alert {
        name: "HoneygraphNoPeers",
        expression: r#"sum without (state) (honeygraph_peers{AGENTS,state=~"alive|probation"}) == 0"#,
        hold: Some("10m"),
        severity: Warning,
        summary: "The agent {{ $labels.instance }} has no peer",
        description: "No peer has answered for 10 minutes: what is missing or damaged cannot be fetched.",
    },
    Alert {
        name: "HoneygraphSyncFailures",
        expression: r#"sum without (peer, outcome) (rate(honeygraph_peer_requests_total{AGENTS,outcome!~"success|not_found|rate_limited"}[15m]))
/
sum without (peer, outcome) (rate(honeygraph_peer_requests_total{AGENTS}[15m]))
> 0.5"#,
        hold: Some("15m"),
        severity: Warning,
        summary: "Most requests of {{ $labels.instance }} to peers fail",
        description: "{{ $value | humanizePercentage }} of them failed.",
    },
];

const AGREEMENT: &[Alert] = &[
    Alert {
        name: "HoneygraphStateHashMismatch",
        expression: "increase(honeygraph_state_hash_mismatches_total{AGENTS}[1h]) > 0",
        hold: None,
        severity: Critical,
        summary: "The agent {{ $labels.instance }} computed another state than was reported",
        description: "A checkpoint did not compute to the content id that a honeycomb reported for it.",
    },
    Alert {
        name: "HoneygraphDiverged",
        expression: "increase(honeygraph_divergences_total{AGENTS}[1h]) > 0",
        hold: None,
        severity: Critical,
        summary: "The voters of {{ $labels.instance }} agreed on another chain",
        description: "It takes back what is not proven and fetches the chain of its voters.",
    },
    Alert {
        name: "HoneygraphForkDivergence",
        expression: "honeygraph_fork_divergence{AGENTS} > 0",
        hold: Some("10m"),
        severity: Warning,
        summary: "{{ $value }} honeycombs of {{ $labels.instance }} stand on another fork",
        description: "They stand on another fork than this replica, or were set aside.",
    },
];

const DISK: &[Alert] = &[
    Alert {
        name: "HoneygraphSlowCommits",
        expression: "histogram_quantile(0.99, rate(honeygraph_commit_duration_seconds_bucket{AGENTS}[15m])) > 2",
        hold: Some("15m"),
        severity: Warning,
        summary: "Commits of {{ $labels.instance }} are slow",
        description: r#"One of a hundred takes longer than {{ $value | printf "%.1f" }} s; a block comes every 3 seconds."#,
    },
    Alert {
        name: "HoneygraphStoreGrowing",
        expression: "honeygraph_store_bytes{AGENTS} - honeygraph_store_bytes{AGENTS} offset 1d > 5 * 1024 ^ 3",
        hold: Some("1h"),
        severity: Warning,
        summary: "The store of {{ $labels.instance }} grew by {{ $value | humanize1024 }}B in a day",
        description: "Look at the free space of its volume, which the agent does not measure.",
    },
];

const DGRAPH: &[Alert] = &[
    Alert {
        name: "HoneygraphDgraphMismatch",
        expression: "honeygraph_dgraph_mismatch{AGENTS} == 1",
        hold: Some("2m"),
        severity: Critical,
        summary: "The Dgraph of the agent {{ $labels.instance }} contradicts its log",
        description: "Dgraph holds another block than the verified log. In shared and hybrid mode nothing is written until a person has decided.",
    },
    Alert {
        name: "HoneygraphDgraphDown",
        expression: "honeygraph_dgraph_up{AGENTS} == 0",
        hold: Some("5m"),
        severity: Warning,
        summary: "The agent {{ $labels.instance }} does not reach its Dgraph",
        description: "For 5 minutes no call was answered. The log goes on without it, and what people query there grows old.",
    },
    Alert {
        name: "HoneygraphDgraphLag",
        expression: "honeygraph_dgraph_lag_blocks{AGENTS} > LAG_BLOCKS and on (job, instance) honeygraph_dgraph_up{AGENTS} == 1",
        hold: Some("15m"),
        severity: Warning,
        summary: "The Dgraph of the agent {{ $labels.instance }} is {{ $value }} blocks behind its log",
        description: "It has been more than LAG_BLOCKS blocks behind for 15 minutes, while it answers.",
    },
];
