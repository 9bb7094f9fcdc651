//! What the pages in `docs/` say of the code is so.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::Cli;

/// The table of commands in `README.md` names each in its first column, with what has to follow it.
#[test]
fn the_readme_lists_every_command() {
    let page = include_str!("../../README.md");
    let (_, table) = page.split_once("\n| command | does |\n").unwrap();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let listed: BTreeSet<String> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .map(|command| {
            command
                .split_once(" FILE")
                .map_or(command, |(name, _)| name)
                .to_owned()
        })
        .collect();
    let cli = Cli::command();
    let commands = cli.get_subcommands().flat_map(|command| {
        let below: Vec<_> = command
            .get_subcommands()
            .map(|below| format!("{} {}", command.get_name(), below.get_name()))
            .collect();
        if below.is_empty() {
            vec![command.get_name().to_owned()]
        } else {
            below
        }
    });
    assert_eq!(listed, commands.collect());
}

/// The invariants of `docs/architecture.md` name tests by `file`: `test`, `test`; ...
#[test]
fn the_invariants_name_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let (_, table) = page.split_once("\n## Invariants\n").unwrap();
    let mut invariants = 0;
    for row in table.lines().filter(|line| line.starts_with("| I")) {
        let tested_in = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let mut source = String::new();
        for named in tested_in.split('`').skip(1).step_by(2) {
            if Path::new(named).extension().is_some() {
                let found = std::fs::read_to_string(root.join(named));
                source = found.unwrap_or_else(|error| panic!("{named}: {error}"));
            } else {
                assert!(source.contains(&format!("fn {named}(")), "no test {named}: {row}");
            }
        }
        assert!(!source.is_empty(), "no file: {row}");
        invariants += 1;
    }
    assert_eq!(invariants, 16);
}
