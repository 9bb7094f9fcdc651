//! `kubectl honeygraph peers`: whom agents exchange blocks with.

use honeygraph_operator::agent::SyncStatus;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::paint::{Cell, Paint, Tone};
use crate::sight::AgentSight;
use crate::text::{age, harmless};

/// Whom the agents of nodes exchange blocks with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeersReport {
    /// The agents.
    pub agents: Vec<AgentPeers>,
}

/// The peers of one agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentPeers {
    /// Its name.
    pub agent: String,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Its peers.
    pub peers: Vec<Peer>,
}

/// A peer, as an agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// What it calls itself.
    pub id: String,
    /// Its base URL.
    pub url: String,
    /// How the agent came to know it.
    pub source: Option<String>,
    /// Whether it answers.
    pub is_alive: bool,
    /// Share of good answers of late, 0 to 1.
    pub reliability: Option<f64>,
    /// Its last answer.
    pub last_seen: Option<Timestamp>,
}

impl PeersReport {
    /// Of what agents answered.
    pub fn new(agents: Vec<AgentSight<SyncStatus>>) -> Self {
        let agents = agents.into_iter().map(|agent| {
            let (peers, fault) = match agent.answer {
                Ok(sync) => (sync.peers, None),
                Err(fault) => (Vec::new(), Some(fault.to_string())),
            };
            AgentPeers {
                agent: agent.name,
                fault,
                peers: peers
                    .into_iter()
                    .map(|peer| Peer {
                        id: peer.id,
                        url: peer.url,
                        source: peer.source,
                        is_alive: peer.is_alive,
                        reliability: peer.reliability,
                        last_seen: peer
                            .last_seen
                            .and_then(|millis| Timestamp::from_millisecond(millis).ok()),
                    })
                    .collect(),
            }
        });
        Self {
            agents: agents.collect(),
        }
    }

    /// Whether every agent answered.
    pub fn is_complete(&self) -> bool {
        self.agents.iter().all(|agent| agent.fault.is_none())
    }
}

/// The screen: a table of all peers, then what is to be said of agents without.
pub fn screen(report: &PeersReport, paint: Paint, now: Timestamp) -> String {
    let rows: Vec<_> = report
        .agents
        .iter()
        .flat_map(|agent| agent.peers.iter().map(|peer| row(&agent.agent, peer, now)))
        .collect();
    let mut parts = Vec::new();
    if !rows.is_empty() {
        parts.push(paint.table(
            [
                "AGENT",
                "PEER",
                "ADDRESS",
                "KNOWN BY",
                "STATE",
                "GOOD ANSWERS",
                "LAST ANSWER",
            ],
            &["GOOD ANSWERS", "LAST ANSWER"],
            rows,
        ));
    }
    for agent in &report.agents {
        match &agent.fault {
            Some(fault) => parts.push(format!(
                "{}  {}",
                agent.agent,
                paint.text(Tone::Bad, &harmless(fault))
            )),
            None if agent.peers.is_empty() => parts.push(format!(
                "{}  {}",
                agent.agent,
                paint.text(
                    Tone::Warning,
                    "knows no peer: name some in spec.peers.static, or make another node of its network"
                )
            )),
            None => {}
        }
    }
    parts.join("\n")
}

fn row(agent: &str, peer: &Peer, now: Timestamp) -> [Cell; 7] {
    [
        agent.into(),
        peer.id.as_str().into(),
        peer.url.as_str().into(),
        peer.source.as_deref().unwrap_or("-").into(),
        if peer.is_alive {
            Cell::toned(Tone::Good, "answers")
        } else {
            Cell::toned(Tone::Bad, "silent")
        },
        peer.reliability
            .map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
            .into(),
        peer.last_seen
            .map_or_else(|| "never".to_owned(), |seen| format!("{} ago", age(seen, now)))
            .into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NOW, assert_screen, peers_seen};

    #[test]
    fn peers_are_listed_by_agent() {
        let report = PeersReport::new(peers_seen());
        assert_screen(
            "peers",
            &screen(&report, Paint::PLAIN, NOW.parse().expect("a time")),
        );
    }

    #[test]
    fn names_of_strangers_do_not_steer_the_terminal() {
        let mut seen = peers_seen();
        if let Some(peer) = seen[0].answer.as_mut().expect("an answer").peers.first_mut() {
            peer.id = "\u{1b}]0;owned\u{7}".to_owned();
            peer.reliability = Some(f64::NAN);
            peer.last_seen = Some(i64::MAX);
        }
        let shown = screen(
            &PeersReport::new(seen),
            Paint::PLAIN,
            NOW.parse().expect("a time"),
        );
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown}");
    }
}
