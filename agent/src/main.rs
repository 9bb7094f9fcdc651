//! The honeygraph node agent; see `honeygraph_agent::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    honeygraph_agent::cli::main_from(std::env::args_os())
}
