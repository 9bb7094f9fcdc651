//! The command with Dgraph, small, in each mode and with each fault: `DGRAPH_BIN` names Dgraph's program. Without it
//! each test is listed as ignored, with the reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Completion, Trial};

const NO_PROGRAM: &str = "no dgraph: name its program in DGRAPH_BIN";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runs = [
        ("independent", None),
        ("shared", None),
        ("hybrid", None),
        ("shared", Some("alpha-killed")),
        ("hybrid", Some("zero-away")),
        ("independent", Some("wiped")),
        ("shared", Some("edited")),
    ];
    let trials = runs.map(|(mode, fault)| {
        let name = fault.map_or_else(|| mode.to_owned(), |fault| format!("{mode}_with_{fault}"));
        Trial::ignorable_test(name.replace('-', "_"), move || {
            let program = std::env::var_os("DGRAPH_BIN").filter(|program| !program.is_empty());
            if program.is_none() {
                return Ok(Completion::ignored_with(NO_PROGRAM));
            }
            run(mode, fault);
            Ok(Completion::Completed)
        })
    });
    let trials = trials
        .into_iter()
        .chain([Trial::test("a_mode_without_a_dgraph_is_one_clear_line", || {
            no_dgraph();
            Ok(())
        })]);
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn devnet(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_honeygraph-devnet"));
    command
        .args(["--nodes", "3", "--blocks", "300"])
        .args(arguments)
        .env("TMPDIR", temporary)
        .env_remove("DGRAPH_ALPHA")
        .stdin(Stdio::null());
    command
}

fn run(mode: &str, fault: Option<&str>) {
    let temporary = tempfile::tempdir().unwrap();
    let mut arguments = vec!["--dgraph-mode", mode];
    arguments.extend(fault.into_iter().flat_map(|fault| ["--dgraph-fault", fault]));
    let output = devnet(temporary.path(), &arguments).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{shown}\n{errors}", output.status);
    for node in 1..=3 {
        let line = format!("Dgraph equals the log of node-{node}: 800 blocks");
        assert!(shown.contains(&line), "no `{line}` in\n{shown}");
    }
    if let Some(fault) = fault {
        assert!(shown.contains(&format!("every Dgraph: {fault}")), "{shown}");
    }
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn no_dgraph() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = devnet(temporary.path(), &["--dgraph-mode", "hybrid"]);
    let output = command.env_remove("DGRAPH_BIN").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        errors,
        "devnet: --dgraph-mode needs a dgraph: name its program in DGRAPH_BIN\n"
    );
}
