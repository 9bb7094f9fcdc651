//! What a check found.

use std::fmt;

use crate::block_number::BlockNumber;

/// Characters of a value that are printed.
const SHOWN_CHARACTERS: usize = 160;

/// Characters before the first difference that are printed of a long value.
const CONTEXT_CHARACTERS: usize = 40;

/// Where in the file a vector stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The part.
    pub part: String,
    /// Place in the part, where it is a list.
    pub index: Option<usize>,
    /// The block that the entry is about.
    pub block: Option<BlockNumber>,
    /// The field.
    pub field: Option<&'static str>,
}

impl Place {
    /// A whole part.
    pub(super) fn part(part: &str) -> Self {
        Self {
            part: part.to_owned(),
            index: None,
            block: None,
            field: None,
        }
    }

    /// An entry of a list.
    pub(super) fn entry(part: &str, index: usize) -> Self {
        Self {
            index: Some(index),
            ..Self::part(part)
        }
    }

    /// The same, about a block.
    pub(super) fn at(self, block: BlockNumber) -> Self {
        Self {
            block: Some(block),
            ..self
        }
    }

    /// A field of this.
    pub(super) fn field(&self, field: &'static str) -> Self {
        Self {
            field: Some(field),
            ..self.clone()
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.part)?;
        if let Some(index) = self.index {
            write!(formatter, "[{index}]")?;
        }
        if let Some(field) = self.field {
            write!(formatter, " {field}")?;
        }
        if let Some(block) = self.block {
            write!(formatter, " (block {block})")?;
        }
        Ok(())
    }
}

/// One comparison that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub place: Place,
    /// What the file says, or what it ought to hold.
    pub expected: String,
    /// What this implementation computed, or found.
    pub got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = self
            .expected
            .chars()
            .zip(self.got.chars())
            .take_while(|(expected, got)| expected == got)
            .count();
        write!(
            formatter,
            "{}: expected {}, got {}",
            self.place,
            excerpt(&self.expected, same),
            excerpt(&self.got, same)
        )
    }
}

/// A long text cut to the characters around the first difference.
fn excerpt(text: &str, difference: usize) -> String {
    if text.chars().count() <= SHOWN_CHARACTERS {
        return text.to_owned();
    }
    let from = difference.saturating_sub(CONTEXT_CHARACTERS);
    let before = if from > 0 { "..." } else { "" };
    let shown: String = text.chars().skip(from).take(SHOWN_CHARACTERS).collect();
    let after = if text.chars().count() > from + SHOWN_CHARACTERS {
        "..."
    } else {
        ""
    };
    format!("{before}{shown}{after}")
}

/// What a check found: how many comparisons passed, and each that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    passed: u64,
    failures: Vec<Failure>,
    notes: Vec<String>,
}

impl Report {
    /// Number of comparisons that passed.
    pub const fn passed(&self) -> u64 {
        self.passed
    }

    /// Every comparison that failed, in the order of checking.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// What could be compared only in part, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether nothing failed.
    pub const fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    pub(super) const fn pass(&mut self) {
        self.passed += 1;
    }

    pub(super) fn fail(&mut self, place: Place, expected: impl fmt::Display, got: impl fmt::Display) {
        self.failures.push(Failure {
            place,
            expected: expected.to_string(),
            got: got.to_string(),
        });
    }

    pub(super) fn compare<T: PartialEq + fmt::Display>(&mut self, place: Place, expected: &T, got: &T) {
        if expected == got {
            self.pass();
        } else {
            self.fail(place, expected, got);
        }
    }

    pub(super) fn note(&mut self, place: &Place, text: &str) {
        self.notes.push(format!("{place}: {text}"));
    }
}

/// A line a failure, a line a note, and `N passed, N failed`.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(formatter, "FAILED {failure}")?;
        }
        for note in &self.notes {
            writeln!(formatter, "note: {note}")?;
        }
        write!(
            formatter,
            "{} passed, {} failed",
            self.passed,
            self.failures.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_around_the_difference() {
        let mut report = Report::default();
        report.pass();
        report.fail(
            Place::entry("canonicalJson", 3).field("canonical"),
            format!("{}é", "a".repeat(1_000)),
            format!("{}b", "a".repeat(1_000)),
        );
        let a = "a".repeat(CONTEXT_CHARACTERS);
        assert_eq!(
            report.to_string(),
            format!("FAILED canonicalJson[3] canonical: expected ...{a}é, got ...{a}b\n1 passed, 1 failed")
        );
    }
}
