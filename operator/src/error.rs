//! Errors as people read them.

use std::error::Error;

/// An error with its causes in one line; a cause that the line ends with already is not repeated.
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = source.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("failed to read: {source}")]
    struct Outer {
        source: Inner,
    }

    #[derive(Debug, Error)]
    #[error("no file")]
    struct Inner {
        source: io::Error,
    }

    #[test]
    fn causes_are_told_once() {
        let error = Outer {
            source: Inner {
                source: io::Error::other("disk"),
            },
        };
        assert_eq!(with_causes(&error), "failed to read: no file: disk");
    }
}
