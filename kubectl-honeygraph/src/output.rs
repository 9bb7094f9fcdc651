//! What a command prints: its screen for people, its report for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;
use thiserror::Error;

/// A form for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON, indented.
    Json,
    /// YAML.
    Yaml,
}

/// The report could not be written or printed.
#[derive(Debug, Error)]
pub enum OutputError {
    /// As JSON.
    #[error("the report cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// As YAML.
    #[error("the report cannot be written as YAML")]
    Yaml(#[from] serde_saphyr::ser::Error),
    /// To standard output.
    #[error("standard output takes nothing")]
    Stdout(#[from] io::Error),
}

/// A report in the form that was asked for; without one its screen.
///
/// # Errors
/// A report that the form cannot say, which none is.
pub fn rendered(
    format: Option<Format>,
    report: &impl Serialize,
    screen: impl FnOnce() -> String,
) -> Result<String, OutputError> {
    Ok(match format {
        None => screen(),
        Some(Format::Json) => serde_json::to_string_pretty(report)?,
        Some(Format::Yaml) => serde_saphyr::to_string(report)?,
    })
}

/// Prints text and the end of its last line. That nobody reads any more is no error.
///
/// # Errors
/// Standard output takes nothing, such as on a full disk.
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    let written = writeln!(output, "{}", text.trim_end_matches('\n')).and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
