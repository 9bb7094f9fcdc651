//! Settings are refused in one line that names them, and documented.

mod contradictions;
mod dgraph;
mod files;
mod values;

use std::io;
use std::path::Path;

use clap::FromArgMatches as _;
use honeygraph_chain::peer::BanSettings;
use honeygraph_chain::planner::PlannerSettings;
use secrecy::ExposeSecret as _;

use super::*;
use crate::ingest::SourceId;

const KEY: &str = "correct-horse-battery-staple";

/// Parses flags alone: what the environment of the test run holds does not matter.
fn parse(flags: &[&str]) -> Result<RawConfig, clap::Error> {
    let command = command().mut_args(|argument| argument.env(None::<&'static str>));
    RawConfig::from_arg_matches(&command.try_get_matches_from(flags)?)
}

fn no_files(_: &Path) -> io::Result<String> {
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn config(flags: &[&str]) -> Config {
    validate(parse(flags).unwrap(), &no_files).unwrap()
}

/// The line for flags that are wrong, by themselves or together.
fn line(flags: &[&str]) -> String {
    line_with(flags, &no_files)
}

fn line_with(flags: &[&str], read: &dyn Fn(&Path) -> io::Result<String>) -> String {
    match parse(flags) {
        Ok(raw) => validate(raw, read).unwrap_err().to_string(),
        Err(error) => usage_line(&error, &command()),
    }
}

/// The line for some flags starts with one setting and its value, and names what it contradicts.
fn assert_names_both((flags, setting, other): (&str, &str, &str)) {
    let flags = flags.replace("KEY", KEY);
    let line = line(&flags.split(' ').collect::<Vec<_>>());
    assert!(
        line.starts_with(setting) && line.contains(other),
        "{flags}: {line}"
    );
    assert!(!line.contains('\n'), "{line}");
}

#[test]
fn every_setting_is_a_flag_and_a_variable_of_one_name() {
    let command = command();
    for argument in command.get_arguments() {
        let flag = argument.get_long().unwrap();
        let variable = argument.get_env().unwrap().to_str().unwrap();
        assert_eq!(flag.replace('-', "_").to_uppercase(), variable);
        assert!(argument.get_help_heading().is_some(), "{variable}");
        assert!(argument.get_help().is_some(), "{variable}");
        assert_eq!(argument.get_default_values().len(), 1, "{variable}");
    }
    assert!(command.get_arguments().count() > 60);
}

#[test]
fn numbers_carry_their_unit_where_people_read_them() {
    for argument in command().get_arguments() {
        let name = argument.get_env().unwrap().to_str().unwrap();
        let unit = argument.get_value_names().unwrap()[0].as_str();
        // The two names that users know from before carry none; their value name and help do.
        let expected = match unit {
            "MILLISECONDS" if name != "SYNC_INTERVAL" => name.ends_with("_MS"),
            "BYTES" => name.contains("_BYTES"),
            "PERCENT" => name.ends_with("_PERCENT"),
            _ => true,
        };
        assert!(expected, "{name} {unit}");
    }
}

#[test]
fn the_defaults_are_a_valid_configuration() {
    let config = config(&[]);
    assert!(config.sync.enabled);
    assert_eq!(config.sync.interval.as_millis(), 30_000);
    assert_eq!(config.network.name.as_str(), "spkcc");
    assert_eq!(
        config.network.schedule,
        honeygraph_chain::network::CheckpointSchedule::default()
    );
    assert_eq!(config.network.start, Start::Join);
    assert_eq!(config.network.max_reorg_depth, 1_000);
    assert_eq!(config.node.history, History::All);
    assert_eq!(config.node.state_documents.get(), 7);
    assert_eq!(config.network.voters.len(), 1);
    assert_eq!(
        config.network.voters[0].name,
        VoterName::Source(SourceId::loopback())
    );
    assert!(config.access.api_keys.is_empty());
}

#[test]
fn the_defaults_are_those_of_the_planner() {
    let (config, planner) = (config(&[]).sync, PlannerSettings::default());
    assert_eq!(
        (config.timeout, config.circuit, config.ban),
        (planner.timeout, planner.circuit, planner.ban)
    );
}

#[test]
fn the_documentation_lists_the_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/configuration.md differs from the settings; run `UPDATE_DOCS=1 cargo test -p honeygraph-agent documentation`"
    );
}
