//! kubectl, and the files it and other clients find the cluster with.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::Context;
use serde_json::json;

use crate::certificates::Certificate;
use crate::parts::search_path;

/// Field manager of what the harness applies.
pub(crate) const FIELD_MANAGER: &str = "honeygraph-test-cluster";

/// kubectl on one cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf, cache: PathBuf) -> Self {
        Self {
            program,
            kubeconfig,
            cache,
        }
    }

    /// The same with another file that names the cluster.
    pub(crate) fn with_kubeconfig(self, kubeconfig: PathBuf) -> Self {
        Self { kubeconfig, ..self }
    }

    /// The file that names the cluster.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs kubectl and returns what it prints; what it complains about is the error.
    pub fn run<I, S>(&self, arguments: I) -> anyhow::Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null());
        let output = command.output().context("kubectl cannot be started")?;
        result(&command, &output)
    }

    /// Applies objects server-side.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        self.apply_with(&[], manifest)
    }

    /// Applies objects server-side in a namespace; they name none, or this one.
    pub fn apply_in(&self, namespace: &str, manifest: &str) -> anyhow::Result<String> {
        self.apply_with(&["--namespace", namespace], manifest)
    }

    /// Sends an object to a path of the API, with `create` or `replace`, and returns the answer.
    pub fn raw(&self, verb: &str, path: &str, object: &serde_json::Value) -> anyhow::Result<String> {
        self.run_with_input(&[verb, "--raw", path, "--filename", "-"], &object.to_string())
    }

    /// Whether somebody could create an object in a namespace: it is asked, not done.
    pub fn try_as(&self, who: &str, namespace: &str, manifest: &str) -> anyhow::Result<String> {
        let create = ["create", "--dry-run=server", "--filename", "-"];
        self.run_with_input(
            &[&["--namespace", namespace, "--as", who], &create[..]].concat(),
            manifest,
        )
    }

    fn apply_with(&self, arguments: &[&str], manifest: &str) -> anyhow::Result<String> {
        let apply = [
            "apply",
            "--server-side",
            "--field-manager",
            FIELD_MANAGER,
            "--filename",
            "-",
        ];
        self.run_with_input(&[arguments, &apply].concat(), manifest)
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = self.command();
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("kubectl cannot be started")?;
        if let Some(mut pipe) = child.stdin.take() {
            // A kubectl that ends without reading says why itself.
            let _ = pipe.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().context("kubectl cannot be waited for")?;
        result(&command, &output)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", &self.cache)
            .env("PATH", search_path());
        command
    }
}

fn result(command: &Command, output: &Output) -> anyhow::Result<String> {
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    anyhow::ensure!(
        output.status.success(),
        "kubectl {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The content of a kubeconfig (JSON, which is YAML).
pub(crate) fn kubeconfig(server: &str, authority: &Path, client: &Certificate) -> String {
    let name = FIELD_MANAGER;
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": { "server": server, "certificate-authority": authority } }],
        "users": [{
            "name": name,
            "user": { "client-certificate": client.certificate, "client-key": client.key },
        }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
        "current-context": name,
    })
    .to_string()
}
