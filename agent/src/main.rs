//! The honeygraph node agent; see `honeygraph_agent::cli`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Applying blocks allocates a lot in small pieces; `docs/benchmarks.md` has what this allocator gains.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    honeygraph_agent::cli::main_from(std::env::args_os())
}
