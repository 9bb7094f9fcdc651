//! `kubectl honeygraph gaps`: which blocks agents miss.

use serde::{Deserialize, Serialize};

use crate::paint::{Paint, Tone};
use crate::sight::AgentSight;
use crate::text::{count, counted, harmless};

/// Gaps of one agent on a screen; `-o json` has all.
const MAX_SHOWN: usize = 20;
/// Signs of a bar.
const BAR: u64 = 40;

/// Answer of an agent to `GET /api/sync/gaps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gaps {
    /// First block looked at.
    pub from_block: u64,
    /// Last block looked at.
    pub to_block: u64,
    /// The gaps, lowest first.
    pub gaps: Vec<Gap>,
    /// Blocks missing in all gaps, those included that are not listed.
    pub total_missing: u64,
}

/// A run of missing blocks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First missing block.
    pub start: u64,
    /// Last missing block.
    pub end: u64,
    /// Number of missing blocks.
    #[serde(default)]
    pub size: u64,
}

/// Which blocks the agents of nodes miss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GapsReport {
    /// The agents.
    pub agents: Vec<AgentGaps>,
}

/// What one agent misses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentGaps {
    /// Its name.
    pub agent: String,
    /// Why it did not answer; the rest is absent then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Its answer.
    #[serde(flatten)]
    pub gaps: Option<Gaps>,
}

impl GapsReport {
    /// Of what agents answered.
    pub fn new(agents: Vec<AgentSight<Gaps>>) -> Self {
        let agents = agents.into_iter().map(|agent| {
            let (gaps, fault) = match agent.answer {
                Ok(gaps) => (Some(gaps), None),
                Err(fault) => (None, Some(fault.to_string())),
            };
            AgentGaps {
                agent: agent.name,
                fault,
                gaps,
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

/// The screen: a bar for each agent, and its gaps.
pub fn screen(report: &GapsReport, paint: Paint) -> String {
    let width = report
        .agents
        .iter()
        .map(|agent| agent.agent.chars().count())
        .max();
    let parts: Vec<_> = report
        .agents
        .iter()
        .map(|agent| of_agent(agent, width.unwrap_or_default(), paint))
        .collect();
    parts.join("\n")
}

fn of_agent(agent: &AgentGaps, width: usize, paint: Paint) -> String {
    let name = format!("{:width$}", agent.agent);
    let Some(gaps) = &agent.gaps else {
        let fault = harmless(agent.fault.as_deref().unwrap_or("no answer"));
        return format!("{name}  {}", paint.text(Tone::Bad, &fault));
    };
    let place = format!("{} to {}", count(gaps.from_block), count(gaps.to_block));
    let bar = bar(gaps, paint);
    if gaps.total_missing == 0 {
        let whole = paint.text(Tone::Good, "misses nothing");
        return format!("{name}  {bar}  {whole}, {place}");
    }
    let missing = format!(
        "misses {} in {}",
        counted(gaps.total_missing, "block"),
        counted(gaps.gaps.len() as u64, "gap")
    );
    let mut lines = vec![format!(
        "{name}  {bar}  {}, {place}",
        paint.text(Tone::Warning, &missing)
    )];
    lines.extend(gaps.gaps.iter().take(MAX_SHOWN).map(|gap| {
        format!(
            "{:width$}    {} to {}, {}",
            "",
            count(gap.start),
            count(gap.end),
            counted(gap.blocks(), "block")
        )
    }));
    let more = gaps.gaps.len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        lines.push(format!(
            "{:width$}    and {}; -o json has all",
            "",
            counted(more as u64, "more gap")
        ));
    }
    lines.join("\n")
}

impl Gap {
    /// Number of missing blocks, whatever `size` says.
    pub const fn blocks(&self) -> u64 {
        match self.end.checked_sub(self.start) {
            Some(distance) => distance.saturating_add(1),
            None => 0,
        }
    }
}

/// The range that was looked at, with a sign for each fortieth of it: whole, in part, or missing.
fn bar(gaps: &Gaps, paint: Paint) -> String {
    let blocks = u128::from(gaps.to_block.saturating_sub(gaps.from_block)) + 1;
    let edge = |sign: u64| {
        let offset = u128::from(sign) * blocks / u128::from(BAR);
        u128::from(gaps.from_block) + offset
    };
    let mut bar = String::new();
    for sign in 0..BAR {
        // Where there are fewer blocks than signs, a sign stands for one of them.
        let (first, after) = (edge(sign), edge(sign + 1).max(edge(sign) + 1));
        let missing: u128 = gaps
            .gaps
            .iter()
            .map(|gap| {
                let (start, end) = (
                    u128::from(gap.start).max(first),
                    (u128::from(gap.end) + 1).min(after),
                );
                end.saturating_sub(start)
            })
            .sum();
        bar.push_str(&match missing {
            0 => paint.text(Tone::Good, "█"),
            _ if missing < after - first => paint.text(Tone::Warning, "▒"),
            _ => paint.text(Tone::Bad, "·"),
        });
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{assert_screen, gaps_seen};

    #[test]
    fn gaps_are_shown_where_they_are() {
        let report = GapsReport::new(gaps_seen());
        assert_screen("gaps", &screen(&report, Paint::PLAIN));
        assert!(!report.is_complete());
    }

    #[test]
    fn lies_about_ranges_are_shown_as_they_are() {
        for (from_block, to_block, start, end) in [
            (0, u64::MAX, 0, u64::MAX),
            (9, 3, 7, 2),
            (5, 5, 5, 5),
            (0, 0, 3, u64::MAX),
        ] {
            let gap = Gap { start, end, size: 7 };
            let gaps = Gaps {
                from_block,
                to_block,
                gaps: vec![gap; 30],
                total_missing: u64::MAX,
            };
            let agent = AgentSight {
                name: "a".to_owned(),
                answer: Ok(gaps),
            };
            let shown = screen(&GapsReport::new(vec![agent]), Paint::PLAIN);
            assert!(shown.contains("and 10 more gaps"), "{shown}");
        }
    }
}
