//! One line for everything that is wrong with the settings.

use std::fmt;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::values::Refused;

/// Exit code for a setting or flag that is wrong (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Characters of a refused value that are shown.
const SHOWN_CHARACTERS: usize = 64;

/// A setting that is wrong, by its name, value and what is allowed. Displays as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}{value}: {problem}")]
pub struct ConfigError {
    /// Name of the environment variable; the flag has the same name.
    pub variable: String,
    /// What it is set to.
    pub value: ShownValue,
    /// What is wrong and what is allowed.
    pub problem: String,
}

/// The value of a setting, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShownValue {
    /// Escaped and cut.
    Text(String),
    /// It is a secret, or what is wrong is that there is none.
    Nothing,
}

impl ShownValue {
    /// A value that anyone may see.
    pub fn of(value: impl fmt::Display) -> Self {
        let text = value.to_string();
        let mut shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
        if shown.len() < text.len() {
            shown.push_str("...");
        }
        Self::Text(shown.escape_debug().collect())
    }
}

impl fmt::Display for ShownValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(formatter, "={text}"),
            Self::Nothing => Ok(()),
        }
    }
}

/// The one line that says what is wrong with a command line or environment that clap refused.
///
/// `command` is the whole command that was parsed; the variable's name is looked up in it.
pub fn usage_line(error: &clap::Error, command: &Command) -> String {
    refused_setting(error, command).map_or_else(|| first_paragraph(error), |error| error.to_string())
}

fn refused_setting(error: &clap::Error, command: &Command) -> Option<ConfigError> {
    if error.kind() == ErrorKind::InvalidUtf8 {
        return not_text(command);
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let argument = find(
        command,
        argument.split([' ', '=', '[']).next()?.strip_prefix("--")?,
    )?;
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) if !argument.is_hide_env_values_set() => ShownValue::of(value),
        _ => ShownValue::Nothing,
    };
    let problem = if let Some(allowed) = allowed(error) {
        format!("not allowed; allowed: {allowed}")
    } else {
        match error.kind() {
            ErrorKind::ArgumentConflict => "given twice".to_owned(),
            _ => "a value is missing".to_owned(),
        }
    };
    Some(ConfigError {
        variable: argument.get_env()?.to_str()?.to_owned(),
        value,
        problem,
    })
}

/// What would have been allowed, from the parser that refused.
pub(super) fn allowed(error: &clap::Error) -> Option<String> {
    if let Some(refused) = refused(error) {
        return Some(refused.to_string());
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => Some(values.join(", ")),
        _ => None,
    }
}

/// The refusal of one of our own parsers.
pub(super) fn refused(error: &clap::Error) -> Option<&Refused> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The variable whose bytes are not UTF-8; clap does not say which.
fn not_text(command: &Command) -> Option<ConfigError> {
    let bad = |argument: &&clap::Arg| {
        argument
            .get_env()
            .and_then(std::env::var_os)
            .is_some_and(|value| value.to_str().is_none())
    };
    let argument = all(command).find(bad)?;
    Some(ConfigError {
        variable: argument.get_env()?.to_str()?.to_owned(),
        value: ShownValue::Nothing,
        problem: "not allowed; allowed: UTF-8 text".to_owned(),
    })
}

fn find<'command>(command: &'command Command, flag: &str) -> Option<&'command clap::Arg> {
    all(command).find(|argument| argument.get_long() == Some(flag) && argument.get_env().is_some())
}

fn all(command: &Command) -> Box<dyn Iterator<Item = &clap::Arg> + '_> {
    Box::new(
        command
            .get_arguments()
            .chain(command.get_subcommands().flat_map(all)),
    )
}

/// What clap says before its hints, on one line.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!("{line}; see --help")
}
