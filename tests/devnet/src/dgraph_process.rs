//! A Dgraph of one zero and one alpha, as processes of their own.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use honeygraph_agent::dgraph::client::{DgraphClient, DgraphSettings, EndpointUrl};
use rand::RngExt;
use tokio::process::{Child, Command};

/// The first argument that makes this program the keeper of another one.
pub(crate) const KEEPER: &str = "keep-dgraph";

/// Ports that a zero and an alpha listen on, before the offset is added.
const PORTS: [u16; 5] = [5_080, 6_080, 7_080, 8_080, 9_080];

/// Offsets that keep all ports below those of nodes.
const OFFSETS: std::ops::Range<u16> = 1_000..10_900;

/// Time until a Dgraph answers.
const START_TIME: Duration = Duration::from_mins(1);

/// Runs a program for as long as standard input is open, and kills it then: it ends when the devnet does, however
/// that dies. `arguments` are the program and its arguments.
pub(crate) fn keep(arguments: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = arguments.split_first() else {
        return ExitCode::FAILURE;
    };
    let child = std::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{}: {error}", program.display());
            return ExitCode::FAILURE;
        }
    };
    let mut input = std::io::stdin();
    let mut buffer = [0; 64];
    while matches!(input.read(&mut buffer), Ok(count) if count > 0) {}
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
    ExitCode::SUCCESS
}

/// Which of the two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Gives out uids and timestamps.
    Zero,
    /// Holds data and answers.
    Alpha,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Alpha => "alpha",
        }
    }
}

/// A zero and an alpha on free ports of loopback. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct DgraphProcesses {
    program: PathBuf,
    directory: PathBuf,
    log: PathBuf,
    offset: u16,
    zero: Option<Child>,
    alpha: Option<Child>,
}

impl DgraphProcesses {
    /// Starts both in a folder of their own, and waits until they answer. They write to the end of `log`.
    pub(crate) async fn start(program: &Path, directory: PathBuf, log: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let mut processes = Self {
            program: program.to_owned(),
            directory,
            log,
            offset: free_offset()?,
            zero: None,
            alpha: None,
        };
        processes.spawn(Role::Zero)?;
        processes.spawn(Role::Alpha)?;
        processes.answers().await?;
        Ok(processes)
    }

    /// Where the alpha takes calls.
    pub(crate) fn endpoint(&self) -> anyhow::Result<EndpointUrl> {
        Ok(format!("http://127.0.0.1:{}", 9_080 + self.offset).parse()?)
    }

    /// Starts one of them on what it had.
    pub(crate) fn spawn(&mut self, role: Role) -> anyhow::Result<()> {
        let address = |port: u16| format!("127.0.0.1:{}", port + self.offset);
        let own: Vec<String> = match role {
            Role::Zero => vec!["--my".into(), address(5_080), "-w".into(), "zw".into()],
            Role::Alpha => vec![
                "--my".into(),
                address(7_080),
                "--zero".into(),
                address(5_080),
                "-p".into(),
                "p".into(),
                "-w".into(),
                "w".into(),
                "--security".into(),
                "whitelist=127.0.0.1".into(),
            ],
        };
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| self.log.display().to_string())?;
        let errors = output.try_clone()?;
        let child = Command::new(std::env::current_exe().context("this program's own file is not known")?)
            .arg(KEEPER)
            .arg(&self.program)
            .arg(role.name())
            .args(own)
            // Nothing is reported to anyone.
            .args(["--bindall=false", "--telemetry", "reports=false; sentry=false;"])
            .args(["--port_offset", &self.offset.to_string()])
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for the devnet.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        *self.place(role) = Some(child);
        Ok(())
    }

    /// Ends one of them at once, as a crash does.
    pub(crate) async fn kill(&mut self, role: Role) -> anyhow::Result<()> {
        if let Some(mut child) = self.place(role).take() {
            drop(child.stdin.take());
            child.wait().await.context("dgraph cannot be waited for")?;
        }
        Ok(())
    }

    /// Ends both.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        self.kill(Role::Alpha).await?;
        self.kill(Role::Zero).await
    }

    /// Waits until the alpha answers, and the schema can be changed.
    async fn answers(&self) -> anyhow::Result<()> {
        let client = DgraphClient::new(DgraphSettings::new(vec![self.endpoint()?]))?;
        let began = tokio::time::Instant::now();
        loop {
            match client.alter("network: string @index(exact) .").await {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > START_TIME => {
                    return Err(error).with_context(|| {
                        format!(
                            "dgraph does not start within {} s; see {}",
                            START_TIME.as_secs(),
                            self.log.display()
                        )
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    const fn place(&mut self, role: Role) -> &mut Option<Child> {
        match role {
            Role::Zero => &mut self.zero,
            Role::Alpha => &mut self.alpha,
        }
    }
}

/// An offset at which all ports of a cluster are free.
fn free_offset() -> anyhow::Result<u16> {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (0..200)
        .map(|_| rand::rng().random_range(OFFSETS))
        .find(|offset| PORTS.iter().all(|base| is_free(base + offset)))
        .context("no free ports for dgraph")
}
