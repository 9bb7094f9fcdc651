//! The settings as a page of documentation.

use std::fmt::Write as _;

use clap::{Args, Command};

use super::arguments::RawConfig;
use super::usage::{allowed, refused};

/// A value that no setting takes: what each parser says to it is what it allows.
const NEVER_ALLOWED: &str = "\u{1}";

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from agent/src/config/arguments.rs; a test compares. -->

Every setting of `honeygraph-agent run` is an environment variable and a flag of the same name: `SYNC_INTERVAL`
is `--sync-interval`. A flag wins over the variable. `honeygraph-agent run --help` prints the same.

Settings are checked before anything is opened. A wrong one ends the program with exit code 64 and one line on
standard error that names the variable, its value (never that of a secret) and what is allowed:

```
SYNC_INTERVAL=soon: not allowed; allowed: 100 to 86400000 milliseconds
```

Variables that may be unset may also be empty; the others need a value. Secrets are best given as files, since
flags are visible to other processes.
";

/// The settings of `run` as a clap command, for help and for the documentation.
pub fn command() -> Command {
    RawConfig::augment_args(Command::new("run").no_binary_name(true))
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let command = command();
    let mut page = INTRODUCTION.to_owned();
    let mut heading = None;
    for argument in command.get_arguments() {
        if argument.get_help_heading() != heading {
            heading = argument.get_help_heading();
            let _ = write!(
                page,
                "\n## {}\n\n| variable | default | allowed | meaning |\n|---|---|---|---|\n",
                heading.unwrap_or("General")
            );
        }
        let name = argument.get_env().unwrap_or_default().to_string_lossy();
        let default = match argument.get_default_values() {
            [value] if !value.is_empty() => format!("`{}`", value.to_string_lossy()),
            _ => "none".to_owned(),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let allowed = allowed_by(&command, argument);
        let _ = writeln!(page, "| `{name}` | {default} | {allowed} | {help} |");
    }
    page
}

fn allowed_by(command: &Command, argument: &clap::Arg) -> String {
    let flag = format!("--{}={NEVER_ALLOWED}", argument.get_long().unwrap_or_default());
    // What the environment of this process holds does not matter here.
    let command = command
        .clone()
        .mut_args(|argument| argument.env(None::<&'static str>));
    match command.try_get_matches_from([flag]) {
        // Of a list what it allows, not which entry is wrong.
        Err(error) => refused(&error)
            .map(|refused| refused.allowed.clone())
            .or_else(|| allowed(&error))
            .unwrap_or_default(),
        Ok(_) => String::new(),
    }
}
