//! Keys and tokens that are never printed.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A key or token: 16 to 512 visible ASCII characters, kept as its sha2-256 digest alone, so that no log
/// line, error or memory dump can show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// Text that is too weak or cannot stand in an `Authorization` header. Does not carry the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", Secret::ALLOWED)]
pub struct SecretError;

impl Secret {
    /// What a secret's text may be.
    pub const ALLOWED: &str = "16 to 512 visible ASCII characters, no space, no comma";

    /// Whether a caller named this secret; takes the same time wherever the difference lies.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(candidate).into();
        self.0.ct_eq(&digest).into()
    }
}

impl std::str::FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        // A comma separates entries of a list.
        if (16..=512).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
        {
            Ok(Self(Sha256::digest(text).into()))
        } else {
            Err(SecretError)
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_matches() {
        let secret: Secret = "correct-horse-battery".parse().unwrap();
        assert!(secret.matches(b"correct-horse-battery"));
        assert!(!secret.matches(b"correct-horse-batterz"));
        assert!(!secret.matches(b"correct-horse-battery "));
        assert!(!secret.matches(b""));
    }

    #[test]
    fn weak_or_unsendable_text_is_refused() {
        for text in [
            "",
            "short",
            "has a space inside it",
            "has,a,comma,inside,it",
            "line\nbreak-inside-it",
        ] {
            assert_eq!(text.parse::<Secret>(), Err(SecretError), "{text}");
        }
        assert!("x".repeat(513).parse::<Secret>().is_err());
    }

    #[test]
    fn debug_output_shows_nothing() {
        let secret: Secret = "correct-horse-battery".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "[secret]");
    }
}
