//! `kubectl honeygraph`; see `kubectl_honeygraph::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubectl_honeygraph::cli::main_from(std::env::args_os())
}
