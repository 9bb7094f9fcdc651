//! What a cluster has taken of the machine, written down so that another process can give it back.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::home::Folder;
use crate::process::ProcessIdentity;

/// One thing that a cluster has taken. All but a process is written down before it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Resource {
    /// The process that the cluster ends with: the test that started it.
    Owner(ProcessIdentity),
    /// A part that runs.
    Process { part: String, process: ProcessIdentity },
    /// A kernel setting that was something else before.
    Setting { file: PathBuf, before: String },
    /// A network device.
    Device { name: String },
    /// A rule of iptables in a chain of the table `filter`.
    Rule { chain: String, rule: Vec<String> },
    /// A table of nftables.
    Table { family: String, name: String },
    /// A control group with all below it, named from the root of each hierarchy.
    ControlGroup { name: String },
}

/// The record of one cluster.
#[derive(Debug)]
pub(crate) struct Record {
    file: File,
    path: PathBuf,
}

impl Record {
    /// Goes on with the record of the cluster in `folder`.
    pub(crate) fn open(folder: &Folder) -> anyhow::Result<Self> {
        let path = file_name(folder.path());
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Self { file, path })
    }

    pub(crate) fn write(&mut self, resource: &Resource) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(resource)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| self.path.display().to_string())
    }
}

/// What the cluster in `folder` has taken, in that order. A line that a kill cut off is left out: what it names was
/// not yet taken, or carries the [mark](crate::process::MARK).
pub(crate) fn read(folder: &Folder) -> anyhow::Result<Vec<Resource>> {
    let path = file_name(folder.path());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(path.display().to_string()),
    };
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

fn file_name(folder: &Path) -> PathBuf {
    folder.join("record.jsonl")
}
