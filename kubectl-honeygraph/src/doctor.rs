//! `kubectl honeygraph doctor`: whether the installation is as it should be, one line a check.

mod findings;
pub(crate) mod installation;
mod nodes;
mod rights;
mod screen;

use serde::Serialize;

pub use findings::{AgentFindings, Findings, NodeFindings, OperatorFindings, Seen, Unseen};
pub use rights::{RIGHTS, Right, Rule};
pub use screen::screen;

/// The result of all checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DoctorReport {
    /// Checks by what they are about.
    pub sections: Vec<Section>,
}

/// Checks about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    /// What they are about.
    pub title: String,
    /// The checks, in their order.
    pub checks: Vec<Check>,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub what: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// To be looked at, or not to be seen by this person.
    Warning,
    /// Wrong.
    Failed,
}

impl Check {
    fn ok(what: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            what: what.into(),
            hint: None,
        }
    }

    fn warning(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            what: what.into(),
            hint: Some(hint.into()),
        }
    }

    fn failed(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failed,
            what: what.into(),
            hint: Some(hint.into()),
        }
    }
}

impl DoctorReport {
    /// A report of one check that failed, where nothing else could be looked at.
    pub fn of_failure(title: &str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            sections: vec![Section {
                title: title.to_owned(),
                checks: vec![Check::failed(what, hint)],
            }],
        }
    }

    /// How many checks ended so.
    pub fn count(&self, verdict: Verdict) -> usize {
        let checks = self.sections.iter().flat_map(|section| &section.checks);
        checks.filter(|check| check.verdict == verdict).count()
    }

    /// Whether no check failed.
    pub fn is_healthy(&self) -> bool {
        self.count(Verdict::Failed) == 0
    }
}

/// Judges what was found.
pub fn examine(findings: &Findings) -> DoctorReport {
    let mut sections = installation::sections(findings);
    sections.extend(nodes::sections(findings));
    DoctorReport { sections }
}

#[cfg(test)]
mod tests;
