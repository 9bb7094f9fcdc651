//! The screen of `status`.

use honeygraph_crds::{DgraphMode, NodePhase};
use k8s_openapi::jiff::Timestamp;

use super::{AgentLine, NodeLine, Problem, Severity, StatusReport};
use crate::paint::{Cell, Paint, Tone};
use crate::text::{age, count, count_or_dash, counted, harmless};

/// What nodes and their agents look like, and what is wrong. `place` says where nodes were looked for.
pub fn screen(report: &StatusReport, place: &str, paint: Paint, now: Timestamp) -> String {
    if report.nodes.is_empty() && report.not_understood.is_empty() {
        return format!(
            "There is no HoneygraphNode {place}. -A looks everywhere; docs/operator.md shows how to make one."
        );
    }
    let several = report
        .nodes
        .iter()
        .any(|node| Some(&node.namespace) != report.nodes.first().map(|first| &first.namespace));
    let mut parts = vec![nodes(report, several, paint, now)];
    if report.agents_asked && !report.agents.is_empty() {
        parts.push(agents(&report.agents, several, paint));
    }
    for checkpoint in &report.checkpoints {
        parts.push(format!(
            "checkpoint {} of {}: {:?} at block {}",
            checkpoint.name,
            checkpoint.node,
            checkpoint.phase,
            count_or_dash(checkpoint.block)
        ));
    }
    parts.push(problems(&report.problems, several, paint));
    if !report.agents_asked {
        parts.push(paint.text(
            Tone::Faint,
            "Agents were not asked: you may not forward ports to pods (get and create on pods/portforward).\n\
             Shown is what the operator last saw.",
        ));
    }
    parts.join("\n\n")
}

fn nodes(report: &StatusReport, several: bool, paint: Paint, now: Timestamp) -> String {
    let rows = report.nodes.iter().map(|node| {
        [
            qualified(several, &node.namespace, &node.name).into(),
            node.network.as_str().into(),
            node.region.as_str().into(),
            dgraph_mode(node.mode).into(),
            Cell::toned(phase_tone(node.phase), node.phase.map_or("-", NodePhase::as_str)),
            count_or_dash(node.head).into(),
            toned_count(node.lag, 20),
            toned_count(node.missing_blocks, 0),
            toned_count(node.largest_gap, 0),
            share(node.peers_alive.zip(node.peers_known)),
            Cell::toned(
                if node.agents_ready < node.agents {
                    Tone::Bad
                } else {
                    Tone::Plain
                },
                format!("{}/{}", node.agents_ready, node.agents),
            ),
            checkpoint(node, now).into(),
        ]
    });
    paint.table(
        [
            "NODE",
            "NETWORK",
            "REGION",
            "DGRAPH",
            "PHASE",
            "HEAD",
            "LAG",
            "MISSING",
            "LARGEST GAP",
            "PEERS",
            "AGENTS",
            "CHECKPOINT",
        ],
        &["HEAD", "LAG", "MISSING", "LARGEST GAP"],
        rows,
    )
}

fn agents(agents: &[AgentLine], several: bool, paint: Paint) -> String {
    let rows = agents.iter().map(|agent| {
        let name = qualified(several, &agent.namespace, &agent.name);
        if agent.fault.is_some() {
            let dash = || Cell::toned(Tone::Faint, "-");
            return [
                name.into(),
                Cell::toned(Tone::Bad, "silent"),
                dash(),
                dash(),
                dash(),
                dash(),
                dash(),
                dash(),
                dash(),
                dash(),
            ];
        }
        let anchor = match (agent.anchor_block, agent.agreement) {
            (Some(block), Some(agreement)) => Cell::toned(
                match agreement {
                    "conflict" => Tone::Bad,
                    // Votes on the newest come in after it.
                    "undecided" => Tone::Plain,
                    _ => Tone::Good,
                },
                format!("{} {agreement}", count(block)),
            ),
            _ => "-".into(),
        };
        [
            name.into(),
            Cell::toned(mode_tone(agent.mode), agent.mode.unwrap_or("-")),
            count_or_dash(agent.head).into(),
            count_or_dash(agent.state_height).into(),
            count_or_dash(agent.lib).into(),
            toned_count(agent.lag, 20),
            toned_count(agent.missing_blocks, 0),
            Cell::toned(
                if agent.peers_alive == 0 {
                    Tone::Bad
                } else {
                    Tone::Plain
                },
                format!("{}/{}", agent.peers_alive, agent.peers_known),
            ),
            anchor,
            count_or_dash(agent.dgraph_lag).into(),
        ]
    });
    paint.table(
        [
            "AGENT",
            "MODE",
            "HEAD",
            "STATE",
            "FINAL",
            "LAG",
            "MISSING",
            "PEERS",
            "NEWEST ANCHOR",
            "DGRAPH LAG",
        ],
        &["HEAD", "STATE", "FINAL", "LAG", "MISSING", "DGRAPH LAG"],
        rows,
    )
}

fn problems(problems: &[Problem], several: bool, paint: Paint) -> String {
    if problems.is_empty() {
        return paint.text(Tone::Good, "Nothing is wrong.");
    }
    let mut lines = vec![paint.title(&format!(
        "{} {}",
        counted(problems.len() as u64, "problem"),
        if problems.len() == 1 {
            "was found:"
        } else {
            "were found, the worst first:"
        }
    ))];
    for problem in problems {
        let (tone, word) = match problem.severity {
            Severity::Failed => (Tone::Bad, "failed "),
            Severity::Warning => (Tone::Warning, "warning"),
        };
        lines.push(format!(
            "  {}  {}  {}",
            paint.text(tone, word),
            qualified(several, &problem.namespace, &problem.node),
            harmless(&problem.what)
        ));
        lines.push(format!("           -> {}", harmless(&problem.hint)));
    }
    lines.join("\n")
}

fn qualified(several: bool, namespace: &str, name: &str) -> String {
    if several {
        format!("{namespace}/{name}")
    } else {
        name.to_owned()
    }
}

fn checkpoint(node: &NodeLine, now: Timestamp) -> String {
    match (node.checkpoint_block, node.checkpoint_time) {
        (Some(block), Some(time)) => format!("{}, {} ago", count(block), age(time, now)),
        _ => "-".to_owned(),
    }
}

/// A number that is a reason to look above a limit.
fn toned_count(number: Option<u64>, limit: u64) -> Cell {
    let tone = match number {
        Some(number) if number > limit => Tone::Warning,
        _ => Tone::Plain,
    };
    Cell::toned(tone, count_or_dash(number))
}

fn share(peers: Option<(u32, u32)>) -> Cell {
    match peers {
        None => "-".into(),
        Some((alive, known)) => Cell::toned(
            if alive == 0 { Tone::Bad } else { Tone::Plain },
            format!("{alive}/{known}"),
        ),
    }
}

const fn dgraph_mode(mode: DgraphMode) -> &'static str {
    match mode {
        DgraphMode::Independent => "Independent",
        DgraphMode::Hybrid => "Hybrid",
        DgraphMode::Shared => "Shared",
        DgraphMode::Embedded => "Embedded",
    }
}

const fn phase_tone(phase: Option<NodePhase>) -> Tone {
    match phase {
        Some(NodePhase::Ready) => Tone::Good,
        Some(NodePhase::Stalled | NodePhase::Degraded) => Tone::Bad,
        Some(NodePhase::Suspended | NodePhase::Terminating) | None => Tone::Faint,
        Some(NodePhase::Pending | NodePhase::Progressing | NodePhase::Syncing | NodePhase::Restoring) => {
            Tone::Warning
        }
    }
}

fn mode_tone(mode: Option<&str>) -> Tone {
    match mode {
        Some("follow") => Tone::Good,
        Some("halted" | "partitioned" | "starved") => Tone::Bad,
        _ => Tone::Warning,
    }
}
