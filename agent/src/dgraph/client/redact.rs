//! Dgraph's own words, fit for a log.

use secrecy::{ExposeSecret, SecretString};

/// Longest text of Dgraph's that is passed on, in characters. Some errors repeat the whole request.
const LONGEST: usize = 400;

/// What stands in a secret's place.
const REDACTED: &str = "[secret]";

/// Start of every JSON web token: the base64 of `{"`.
const TOKEN_START: &str = "eyJ";

/// Takes secrets out of texts: Dgraph's answer to a wrong auth token repeats that token.
#[derive(Debug, Clone, Default)]
pub(super) struct Redactor(Vec<SecretString>);

impl Redactor {
    pub(super) fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        Self(
            secrets
                .into_iter()
                .filter(|secret| !secret.expose_secret().is_empty())
                .collect(),
        )
    }

    /// The text in one line, bounded, without secrets and without JSON web tokens.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for secret in &self.0 {
            clean = clean.replace(secret.expose_secret(), REDACTED);
        }
        let words: Vec<&str> = clean
            .split(|character: char| character.is_whitespace() || character.is_control())
            .filter(|word| !word.is_empty())
            .map(|word| {
                if word.contains(TOKEN_START) {
                    REDACTED
                } else {
                    word
                }
            })
            .collect();
        let line = words.join(" ");
        match line.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
            None => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_tokens_do_not_get_through() {
        let redactor = Redactor::new(["hunter2".into(), "".into()]);
        assert_eq!(
            redactor.clean("Provided auth token [hunter2] does not match.\nPermission denied."),
            "Provided auth token [[secret]] does not match. Permission denied."
        );
        assert_eq!(
            redactor.clean("unable to parse jwt token:eyJhbGciOiJIUzI1NiJ9.e30.x expired"),
            "unable to parse jwt [secret] expired"
        );
    }

    #[test]
    fn a_text_is_one_bounded_line() {
        let redactor = Redactor::default();
        assert_eq!(redactor.clean("line 1\n\u{1b}[31mline\t2 "), "line 1 [31mline 2");
        let long = redactor.clean(&"ü".repeat(10_000));
        assert_eq!(long.chars().count(), LONGEST + 3);
    }
}
