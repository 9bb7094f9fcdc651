//! One node: a process of its own, this program started again as the agent.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// The first argument that makes this program an agent.
pub(crate) const AGENT: &str = "agent";

/// Time to end after SIGTERM.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Bytes at the end of a log that its last lines are looked for in.
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// What a node inherits of our environment; its settings come from its arguments alone.
const INHERITED: [&str; 6] = ["PATH", "HOME", "TMPDIR", "LANG", "RUST_BACKTRACE", "SystemRoot"];

/// Runs the agent in this process: `arguments` are those of `honeygraph-agent`, its name first.
pub(crate) fn run_agent(arguments: Vec<OsString>) -> ExitCode {
    // Our standard input is a pipe from the devnet: it ends when the devnet does, however that dies.
    std::thread::spawn(|| {
        let mut input = std::io::stdin();
        let mut buffer = [0; 64];
        while matches!(input.read(&mut buffer), Ok(count) if count > 0) {}
        std::process::exit(1);
    });
    honeygraph_agent::cli::main_from(arguments.into_iter())
}

/// A running node.
#[derive(Debug)]
pub(crate) struct AgentProcess {
    child: Child,
}

impl AgentProcess {
    /// Starts a node that writes to the end of `log`.
    pub(crate) fn start(settings: &[OsString], log: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own file is not known")?;
        let mut output = open_log(log)?;
        let _ = writeln!(output, "--- started");
        let errors = output.try_clone().with_context(|| log.display().to_string())?;
        let mut command = Command::new(program);
        command
            .arg(AGENT)
            .arg("run")
            .args(settings)
            .env_clear()
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for the devnet, which then ends its nodes.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().context("a node cannot be started")?;
        Ok(Self { child })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("a node cannot be waited for")
    }

    /// Asks it to stop and waits until it has; a node that does not is killed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        if asked && tokio::time::timeout(STOP_TIME, self.child.wait()).await.is_ok() {
            return Ok(());
        }
        self.kill().await
    }

    /// Ends it at once, whatever it is doing.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("a node cannot be killed")
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| path.display().to_string())
}

/// The last lines of a node's log, without colours.
pub(crate) fn last_lines(log: &PathBuf, count: usize) -> String {
    let mut tail = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        file.take(LOG_TAIL_BYTES).read_to_end(&mut tail)
    });
    match read {
        Ok(_) => {
            let text = String::from_utf8_lossy(&tail);
            let text = console::strip_ansi_codes(&text).into_owned();
            let lines: Vec<_> = text.lines().collect();
            let first = lines.len().saturating_sub(count);
            lines.get(first..).unwrap_or_default().join("\n")
        }
        Err(error) => format!("{}: {error}", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log_are_shown_plain() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("node.log");
        std::fs::write(&log, "one\ntwo\n\u{1b}[31mthree\u{1b}[0m\n").unwrap();
        assert_eq!(last_lines(&log, 2), "two\nthree");
        assert_eq!(last_lines(&log, 9), "one\ntwo\nthree");
        assert!(last_lines(&directory.path().join("none"), 2).contains("none"));
    }
}
