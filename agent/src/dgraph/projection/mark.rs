//! Marks of steps.

use super::store::WriterName;

/// What each step writes beside the cursor: a text that no other step has, which people can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// Of a new step.
    pub(super) fn new(writer: &WriterName) -> Self {
        Self(format!("{writer} {}", uuid::Uuid::new_v4().simple()))
    }

    /// As it stands in Dgraph.
    pub(super) const fn from_text(text: String) -> Self {
        Self(text)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The writer that it names.
    pub fn writer(&self) -> &str {
        self.0.rsplit_once(' ').map_or(&self.0, |(writer, _)| writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_its_writer() {
        for name in ["node", "a node"] {
            let mark = Mark::new(&name.parse().unwrap());
            assert_eq!(mark.writer(), name);
            assert_ne!(mark, Mark::new(&name.parse().unwrap()));
        }
    }
}
