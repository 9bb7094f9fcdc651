//! `cargo cluster`: a real Kubernetes cluster on this machine, for tests of the operator. See `docs/test-cluster.md`.

mod arguments;
mod commands;
mod scenarios;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Up { level, audit } => commands::up(level, audit),
        Command::Down { all } => commands::down(all),
        Command::Status => commands::status(),
        Command::Env => commands::env(),
        Command::Tools { sets } => commands::tools(&sets),
        Command::Load { name, program } => commands::load(&name, &program),
        Command::CheckKind { file } => commands::check_kind(&file),
        Command::Manifests { write } => commands::manifests(write),
        Command::Guard { process } => commands::guard(process),
        Command::Demo => scenarios::demo(),
        Command::Test(arguments) => scenarios::test(&arguments),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}
