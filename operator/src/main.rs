//! The Kubernetes operator of Honeygraph; see `honeygraph_operator::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    honeygraph_operator::cli::main_from(std::env::args_os())
}
