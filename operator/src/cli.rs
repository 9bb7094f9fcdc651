//! The command line: `honeygraph-operator run` reconciles, `honeygraph-operator crd` prints the definitions of the
//! resources.
//!
//! Exit codes: 0, it was done; 1, it failed; [`EXIT_USAGE`], the command line or a setting is wrong.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::error::with_causes;
use crate::settings::{LogFormat, Settings};

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
    /// Reconcile the resources of a cluster
    Run(Box<Settings>),
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
    match cli.command {
        Command::Run(settings) => run(*settings),
        Command::Crd { kind } => match print_definitions(&mut io::stdout().lock(), kind) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&format!("the definitions could not be printed: {error}")),
        },
    }
}

fn run(settings: Settings) -> ExitCode {
    let Ok(filter) = EnvFilter::try_new(&settings.log) else {
        let _ = writeln!(
            io::stderr(),
            "LOG={}: not allowed; allowed: off, error, warn, info, debug or trace, or a filter such as info,kube=warn",
            settings.log
        );
        return EXIT_USAGE.into();
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match settings.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    // Only fails where another was installed, and there is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}")),
    };
    match runtime.block_on(crate::run::run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&with_causes(&error)),
    }
}

fn failed(line: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::FAILURE
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
    use super::*;

    fn printed(kind: Option<Kind>) -> String {
        let mut output = Vec::new();
        print_definitions(&mut output, kind).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn prints_what_is_committed() {
        let node = include_str!("../../crds/honeygraphnode.yaml");
        let checkpoint = include_str!("../../crds/checkpoint.yaml");
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
