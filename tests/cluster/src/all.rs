//! All clusters of this user: what runs, and what is removed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use crate::home::Folder;
use crate::level::Level;
use crate::process::ProcessIdentity;
use crate::record::{self, Resource};
use crate::removal;
use crate::start::level_of;

/// Time between two looks at a process that is ending.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One part of a cluster, as it is now.
#[derive(Clone, Debug)]
pub struct PartCondition {
    /// Its name.
    pub part: String,
    /// Its process.
    pub pid: i32,
    /// Whether that process runs.
    pub alive: bool,
    /// Where it logs.
    pub log: PathBuf,
}

/// One cluster, as it is now.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Its name: [`UP`](crate::UP), or one of a test.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// How much of a cluster it is; unknown where a start was cut off early.
    pub level: Option<Level>,
    /// Whether it has been started to the end.
    pub started: bool,
    /// The process that uses it, while that runs.
    pub user: Option<i32>,
    /// Its parts in the order of their start.
    pub parts: Vec<PartCondition>,
}

/// All clusters of this user, also what is left of those whose test was killed.
pub fn conditions() -> anyhow::Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    for folder in Folder::all()? {
        let parts = record::read(&folder)?
            .into_iter()
            .filter_map(|resource| match resource {
                Resource::Process { part, process } => Some(PartCondition {
                    pid: process.pid(),
                    alive: process.is_alive(),
                    log: folder.log(&part),
                    part,
                }),
                _ => None,
            });
        conditions.push(Condition {
            name: folder.name(),
            folder: folder.path().to_owned(),
            level: level_of(&folder).ok(),
            started: folder.kubeconfig().exists(),
            user: user(&folder)?.map(ProcessIdentity::pid),
            parts: parts.collect(),
        });
    }
    Ok(conditions)
}

/// Which clusters are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// That of `cargo cluster up`, and those whose test has ended.
    NotInUse,
    /// Those that a running test uses too.
    All,
}

/// Removes clusters; returns the names of those removed. All are tried; an error names what is left.
pub fn remove_all(which: Removal) -> anyhow::Result<Vec<String>> {
    let mut removed = Vec::new();
    let mut left = Vec::new();
    for folder in Folder::all()? {
        if which == Removal::NotInUse && user(&folder)?.is_some() {
            continue;
        }
        match removal::remove(&folder) {
            Ok(()) => removed.push(folder.name()),
            Err(error) => left.push(format!("{error:#}")),
        }
    }
    anyhow::ensure!(left.is_empty(), "{}", left.join("\n"));
    Ok(removed)
}

/// Removes clusters whose test was killed.
pub(crate) fn remove_forsaken() -> anyhow::Result<()> {
    for folder in Folder::all()? {
        if let Some(owner) = removal::owner(&folder)?
            && !owner.is_alive()
        {
            eprintln!(
                "removing {}: the process that started it is gone",
                folder.path().display()
            );
            removal::remove(&folder)?;
        }
    }
    Ok(())
}

/// A process whose clusters are removed when it has ended.
#[derive(Debug)]
pub struct Watched {
    owner: ProcessIdentity,
}

impl Watched {
    /// The process that has this id now.
    pub fn process(pid: u32) -> anyhow::Result<Self> {
        let owner = ProcessIdentity::of(pid).with_context(|| format!("there is no process {pid}"))?;
        Ok(Self { owner })
    }

    /// Waits for its end, which must be near, and removes its clusters.
    pub fn remove_when_ended(self) -> anyhow::Result<()> {
        while self.owner.is_alive() {
            std::thread::sleep(LOOK_AGAIN);
        }
        for folder in Folder::all()? {
            if removal::owner(&folder)? == Some(self.owner) {
                removal::remove(&folder)?;
            }
        }
        Ok(())
    }
}

/// The process that uses a cluster, while it runs.
fn user(folder: &Folder) -> anyhow::Result<Option<ProcessIdentity>> {
    Ok(removal::owner(folder)?.filter(|owner| owner.is_alive()))
}
