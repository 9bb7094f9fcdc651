//! Checks a configuration of kind with kind's own loader, without Docker.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::parts::search_path;
use crate::tools::ToolSet;

/// What `tools/kind/stand-in/docker` says when kind has accepted a configuration and goes on to the nodes.
const ACCEPTED: &str = "stand-in: the configuration is good";

/// Whether kind accepts a configuration: unknown fields, wrong values and what kind itself demands are the error.
pub fn check_kind_config(file: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(file.is_file(), "{} is no file", file.display());
    let kind = ToolSet::Kind.build()?.join("kind");
    let stand_in = ToolSet::Kind.source().join("stand-in");
    let output = Command::new(kind)
        .args(["create", "cluster", "--name", "configuration-check", "--config"])
        .arg(file)
        .env("KIND_EXPERIMENTAL_PROVIDER", "docker")
        .env("PATH", format!("{}:{}", stand_in.display(), search_path()))
        .stdin(Stdio::null())
        .output()
        .context("kind cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains(ACCEPTED) {
        return Ok(());
    }
    let reason = said
        .split("ERROR: failed to create cluster: ")
        .last()
        .unwrap_or_default();
    anyhow::bail!("kind refuses {}: {}", file.display(), reason.trim())
}
