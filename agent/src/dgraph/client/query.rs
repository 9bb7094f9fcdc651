//! Questions and answers.

use std::collections::HashMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::error::DgraphError;
use super::wire;

/// A question in DQL. Values go into it as variables, never as text, so that they cannot be taken for syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    text: String,
    variables: HashMap<String, String>,
}

impl Query {
    /// A question; one with variables starts with their declaration, `query q($path: string) { ... }`.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            variables: HashMap::new(),
        }
    }

    /// Gives a variable its value; its name with the `$`.
    #[must_use]
    pub fn with(mut self, variable: &str, value: impl Into<String>) -> Self {
        self.variables.insert(variable.to_owned(), value.into());
        self
    }

    pub(super) fn in_transaction(&self) -> wire::Request {
        wire::Request {
            query: self.text.clone(),
            vars: self.variables.clone(),
            ..wire::Request::default()
        }
    }

    pub(super) fn read_only(&self, reading: Reading) -> wire::Request {
        wire::Request {
            read_only: true,
            best_effort: reading == Reading::BestEffort,
            ..self.in_transaction()
        }
    }
}

/// How new an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// Holds every commit that was done before the question.
    Strict,
    /// What the alpha has, without asking Zero: cheaper, and answered while Zero is away.
    BestEffort,
}

/// What Dgraph answered: a JSON object with a member for each block of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(pub(super) Bytes);

impl Answer {
    pub(super) const fn empty() -> Self {
        Self(Bytes::new())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, DgraphError> {
        // A request without a question is answered with nothing.
        let json: &[u8] = if self.0.is_empty() { b"{}" } else { &self.0 };
        serde_json::from_slice(json).map_err(|error| DgraphError::Answer(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_new_an_answer_must_be_is_said() {
        let query =
            Query::new("query q($p: string) { q(func: eq(op.path, $p)) { uid } }").with("$p", "a\" }");
        let strict = query.read_only(Reading::Strict);
        assert!(strict.read_only && !strict.best_effort);
        assert_eq!(strict.vars.get("$p").unwrap(), "a\" }");
        let loose = query.read_only(Reading::BestEffort);
        assert!(loose.read_only && loose.best_effort);
        let open = query.in_transaction();
        assert!(!open.read_only && !open.best_effort);
    }

    #[test]
    fn an_answer_is_read_or_refused() {
        let read =
            |bytes: &'static [u8]| Answer(Bytes::from_static(bytes)).read::<HashMap<String, Vec<u8>>>();
        assert_eq!(read(b"{\"q\":[1]}").unwrap().get("q"), Some(&vec![1]));
        assert!(read(b"").unwrap().is_empty());
        assert!(matches!(read(b"[1"), Err(DgraphError::Answer(_))));
    }
}
