//! A Dgraph of one zero and one alpha on free ports of loopback, started from `DGRAPH_BIN`.
#![allow(dead_code, reason = "each program that includes it uses a part")]

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use honeygraph_agent::dgraph::client::{DgraphClient, DgraphError, DgraphSettings, EndpointUrl};

/// Where tests find a Dgraph.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// `DGRAPH_BIN`: a program that they start themselves.
    Binary(PathBuf),
    /// `DGRAPH_ALPHA`: a running alpha.
    Alpha(EndpointUrl),
}

/// Why there is no Dgraph to test against.
pub(crate) const NO_DGRAPH: &str =
    "no dgraph: name its program in DGRAPH_BIN, or a running alpha (http://host:9080) in DGRAPH_ALPHA";

impl Source {
    /// What the environment names; the program where it names both.
    pub(crate) fn from_environment() -> Option<Self> {
        let named = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(program) = named("DGRAPH_BIN") {
            return Some(Self::Binary(program.into()));
        }
        named("DGRAPH_ALPHA").map(|alpha| Self::Alpha(alpha.parse().expect("DGRAPH_ALPHA")))
    }
}

/// Ports that a zero and an alpha listen on, before the offset is added.
const PORTS: [u16; 5] = [5080, 6080, 7080, 8080, 9080];

/// Nothing is reported to anyone.
const TELEMETRY: &str = "reports=false; sentry=false;";

/// The cluster; its processes end when it is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    program: PathBuf,
    directory: PathBuf,
    alpha_flags: Vec<String>,
    offset: u16,
    zero: Option<Child>,
    alpha: Option<Child>,
}

impl Cluster {
    /// Starts one in a directory. It may take some seconds until it answers: see [`ready`].
    pub(crate) fn start(program: &Path, directory: &Path, alpha_flags: &[&str]) -> Self {
        let mut cluster = Self {
            program: program.to_owned(),
            directory: directory.to_owned(),
            alpha_flags: alpha_flags.iter().map(|&flag| flag.to_owned()).collect(),
            offset: free_offset(),
            zero: None,
            alpha: None,
        };
        cluster.start_zero();
        cluster.start_alpha();
        cluster
    }

    /// Where the alpha listens.
    pub(crate) fn endpoint(&self) -> EndpointUrl {
        format!("http://127.0.0.1:{}", 9080 + self.offset)
            .parse()
            .unwrap()
    }

    /// Where it listens with TLS.
    pub(crate) fn tls_endpoint(&self) -> EndpointUrl {
        format!("https://127.0.0.1:{}", 9080 + self.offset)
            .parse()
            .unwrap()
    }

    /// The program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Where the alpha listens, without a scheme.
    pub(crate) fn alpha_address(&self) -> String {
        format!("127.0.0.1:{}", 9080 + self.offset)
    }

    /// Where the alpha's HTTP API listens, without a scheme.
    pub(crate) fn alpha_http_address(&self) -> String {
        format!("127.0.0.1:{}", 8080 + self.offset)
    }

    /// Where the zero listens, without a scheme.
    pub(crate) fn zero_address(&self) -> String {
        format!("127.0.0.1:{}", 5080 + self.offset)
    }

    /// A client without login.
    pub(crate) fn client(&self) -> DgraphClient {
        DgraphClient::new(DgraphSettings::new(vec![self.endpoint()])).unwrap()
    }

    /// Process of the alpha.
    pub(crate) fn alpha_id(&self) -> u32 {
        self.alpha.as_ref().unwrap().id()
    }

    /// Process of the zero.
    pub(crate) fn zero_id(&self) -> u32 {
        self.zero.as_ref().unwrap().id()
    }

    /// Ends the alpha at once, as a crash does.
    pub(crate) fn kill_alpha(&mut self) {
        end(&mut self.alpha);
    }

    /// Ends the zero at once, as a crash does.
    pub(crate) fn kill_zero(&mut self) {
        end(&mut self.zero);
    }

    /// Starts the zero on what it had.
    pub(crate) fn start_zero(&mut self) {
        let my = format!("127.0.0.1:{}", 5080 + self.offset);
        self.zero = Some(self.spawn("zero", &["--my", &my, "-w", "zw"], &[]));
    }

    /// Starts the alpha on what it had.
    pub(crate) fn start_alpha(&mut self) {
        let my = format!("127.0.0.1:{}", 7080 + self.offset);
        let zero = format!("127.0.0.1:{}", 5080 + self.offset);
        let flags = ["--my", &my, "--zero", &zero, "-p", "p", "-w", "w"];
        self.alpha = Some(self.spawn("alpha", &flags, &self.alpha_flags));
    }

    fn spawn(&self, role: &str, flags: &[&str], more: &[String]) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join(format!("{role}.log")))
            .unwrap();
        Command::new(&self.program)
            .arg(role)
            .args(flags)
            .args(["--bindall=false", "--telemetry", TELEMETRY])
            .args(["--port_offset", &self.offset.to_string()])
            .args(more)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_alpha();
        self.kill_zero();
    }
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Waits until a call succeeds, a minute at most: a Dgraph that starts has no event to wait for.
pub(crate) async fn eventually<T, F: Future<Output = Result<T, DgraphError>>>(call: impl Fn() -> F) -> T {
    let often = ConstantBuilder::new()
        .with_delay(Duration::from_millis(100))
        .with_max_times(600);
    call.retry(often).await.unwrap()
}

/// Waits until a client's alphas take requests.
pub(crate) async fn ready(client: &DgraphClient) {
    eventually(async || client.health().await.remove(0).outcome.map(drop)).await;
}

/// Offsets that keep all ports below those that a machine gives to outgoing connections (32,768 and up on
/// Linux): one of them could take an alpha's port while it restarts.
const OFFSETS: std::ops::Range<u16> = 1_000..23_000;

/// An offset at which all ports of a cluster are free.
fn free_offset() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..200)
        .map(|_| rand::random_range(OFFSETS))
        .find(|offset| PORTS.iter().all(|base| is_free(base + offset)))
        .expect("free ports")
}
