//! The command line: `honeygraph-operator crd` prints the definitions of the resources.
//!
//! Exit codes: 0, it was done; 1, it failed; [`EXIT_USAGE`], the command line is wrong.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Exit code for a wrong command line (`EX_USAGE` of `sysexits.h`).
pub const EXIT_USAGE: u8 = 64;

#[derive(Debug, Parser)]
#[command(
    name = "honeygraph-operator",
    version,
    about = "Runs replicas of honeycomb networks in Kubernetes"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the definitions of the resources as YAML, for `kubectl apply --server-side -f -`
    Crd {
        /// Only the definition of this resource
        kind: Option<Kind>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// One replica of one network in one region
    #[value(name = "honeygraphnode")]
    HoneygraphNode,
    /// An anchor with its volume snapshots
    Checkpoint,
}

/// Runs what the command line says.
pub fn main_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Where nobody reads, there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() {
                EXIT_USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let Command::Crd { kind } = cli.command;
    match print_definitions(&mut io::stdout().lock(), kind) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "the definitions could not be printed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes one definition, or all of them as the documents of one stream.
fn print_definitions(output: &mut impl Write, kind: Option<Kind>) -> io::Result<()> {
    let definitions = match kind {
        None => honeygraph_crds::definitions().into(),
        Some(Kind::HoneygraphNode) => vec![honeygraph_crds::honeygraph_node()],
        Some(Kind::Checkpoint) => vec![honeygraph_crds::checkpoint()],
    };
    for (position, definition) in definitions.iter().enumerate() {
        if position > 0 {
            output.write_all(b"---\n")?;
        }
        let document = honeygraph_crds::yaml(definition).map_err(io::Error::other)?;
        output.write_all(document.as_bytes())?;
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn printed(kind: Option<Kind>) -> String {
        let mut output = Vec::new();
        print_definitions(&mut output, kind).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn prints_what_is_committed() {
        let committed = |name: &str| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
            std::fs::read_to_string(folder.join(name)).unwrap()
        };
        let (node, checkpoint) = (committed("honeygraphnode.yaml"), committed("checkpoint.yaml"));
        assert_eq!(printed(Some(Kind::HoneygraphNode)), node);
        assert_eq!(printed(Some(Kind::Checkpoint)), checkpoint);
        assert_eq!(printed(None), format!("{node}---\n{checkpoint}"));
    }

    #[test]
    fn an_unknown_resource_is_a_wrong_command_line() {
        let error = Cli::try_parse_from(["honeygraph-operator", "crd", "pod"]).unwrap_err();
        assert!(error.use_stderr());
        assert!(
            error.to_string().contains("honeygraphnode, checkpoint"),
            "{error}"
        );
    }

    #[test]
    fn a_closed_output_is_an_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = print_definitions(&mut Closed, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
