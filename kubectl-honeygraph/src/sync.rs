//! `kubectl honeygraph sync`: has agents fill their gaps now.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::gaps::Gap;
use crate::paint::{Paint, Tone};
use crate::sight::{AgentFault, AgentSight};
use crate::text::{counted, harmless};

/// Body of `POST /api/sync/sync-gaps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncRequest {
    /// What to fill.
    pub gaps: Vec<Gap>,
}

/// Answer of an agent to that.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct SyncAnswer {
    /// False while another run is on.
    #[serde(default)]
    pub success: bool,
    /// What the run did.
    pub results: Option<SyncResults>,
    /// Why there was none.
    pub reason: Option<String>,
}

/// What a run of filling gaps did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncResults {
    /// Gaps that were asked for.
    #[serde(default)]
    pub total_gaps: u64,
    /// Blocks that are there now.
    #[serde(default)]
    pub synced_blocks: u64,
    /// Blocks that are not.
    #[serde(default)]
    pub failed_blocks: u64,
    /// Blocks by the peer they came from.
    #[serde(default)]
    pub peers: BTreeMap<String, u64>,
}

/// What became of asking an agent to fill its gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has none.
    NoGaps,
    /// It filled them, as far as it could.
    Filled(SyncResults),
    /// It is filling gaps already.
    InProgress,
    /// It is still at it when the time to wait was over; it goes on.
    StillFilling {
        /// Blocks that it misses.
        missing: u64,
    },
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncReport {
    /// The agents.
    pub agents: Vec<AgentSync>,
}

/// What one agent did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSync {
    /// Its name.
    pub agent: String,
    /// `noGaps`, `filled`, `filledInPart`, `inProgress`, `stillFilling` or `failed`.
    pub outcome: &'static str,
    /// What it did, in a sentence.
    pub message: String,
    /// What the run did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<SyncResults>,
    #[serde(skip)]
    tone: Tone,
}

impl SyncReport {
    /// Of what agents answered.
    pub fn new(agents: Vec<AgentSight<Outcome>>) -> Self {
        Self {
            agents: agents.into_iter().map(of_agent).collect(),
        }
    }

    /// Whether no agent failed or filled only a part.
    pub fn is_done(&self) -> bool {
        self.agents.iter().all(|agent| agent.tone != Tone::Bad)
    }
}

fn of_agent(agent: AgentSight<Outcome>) -> AgentSync {
    let (outcome, tone, message, results) = match agent.answer {
        Ok(Outcome::NoGaps) => ("noGaps", Tone::Good, "misses nothing".to_owned(), None),
        Ok(Outcome::InProgress) => (
            "inProgress",
            Tone::Plain,
            "is filling gaps already; see kubectl honeygraph gaps".to_owned(),
            None,
        ),
        Ok(Outcome::StillFilling { missing }) => (
            "stillFilling",
            Tone::Warning,
            format!(
                "is still filling {}, and goes on; see kubectl honeygraph gaps",
                counted(missing, "block")
            ),
            None,
        ),
        Ok(Outcome::Filled(results)) => {
            let (outcome, tone) = if results.failed_blocks == 0 {
                ("filled", Tone::Good)
            } else {
                ("filledInPart", Tone::Bad)
            };
            (outcome, tone, filled(&results), Some(results))
        }
        Err(fault) => ("failed", Tone::Bad, refusal(&fault), None),
    };
    AgentSync {
        agent: agent.name,
        outcome,
        message,
        results,
        tone,
    }
}

fn filled(results: &SyncResults) -> String {
    let mut text = format!(
        "filled {} of {}",
        counted(results.synced_blocks, "block"),
        counted(results.total_gaps, "gap")
    );
    let from: Vec<_> = results
        .peers
        .iter()
        .map(|(peer, blocks)| format!("{} from {peer}", counted(*blocks, "block")))
        .collect();
    if !from.is_empty() {
        text = format!("{text}: {}", from.join(", "));
    }
    if results.failed_blocks > 0 {
        text = format!(
            "{text}; {} could not be had: does a peer have them? kubectl honeygraph peers",
            counted(results.failed_blocks, "block")
        );
    }
    text
}

/// A fault with what to do about it.
fn refusal(fault: &AgentFault) -> String {
    match fault {
        AgentFault::KeyWanted => {
            "wants an API key: name its file with --api-key-file; it is that of spec.peers.apiKeys".to_owned()
        }
        AgentFault::Forbidden => format!("{fault}: ask for get and create on pods/portforward"),
        AgentFault::NoPod { .. } => format!("{fault}: see kubectl honeygraph status"),
        _ => fault.to_string(),
    }
}

/// The screen: a line for each agent.
pub fn screen(report: &SyncReport, paint: Paint) -> String {
    let width = report
        .agents
        .iter()
        .map(|agent| agent.agent.chars().count())
        .max();
    let width = width.unwrap_or_default();
    let lines: Vec<_> = report
        .agents
        .iter()
        .map(|agent| {
            let message = paint.text(agent.tone, &harmless(&agent.message));
            format!("{:width$}  {message}", agent.agent)
        })
        .collect();
    lines.join("\n")
}

/// The first key of a file of keys, one a line.
pub(crate) fn first_key(text: &str) -> Option<SecretString> {
    let key = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))?;
    Some(SecretString::from(key))
}

/// The key that a Secret holds for the calls of a node's agents.
pub(crate) fn key_of_secret(secret: &Secret, key: &str) -> Option<SecretString> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    first_key(std::str::from_utf8(bytes).ok()?)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::fixtures::{assert_screen, synced};

    #[test]
    fn each_agent_says_what_it_did() {
        let report = SyncReport::new(synced());
        assert_screen("sync", &screen(&report, Paint::PLAIN));
        assert!(!report.is_done());
        assert!(SyncReport::new(vec![synced().swap_remove(0)]).is_done());
    }

    #[test]
    fn the_first_key_of_a_file_is_used() {
        let key = first_key("# ours\n\n  secret-key \nother\n").expect("a key");
        assert_eq!(key.expose_secret(), "secret-key");
        assert!(first_key(" \n# nothing\n").is_none());
    }
}
