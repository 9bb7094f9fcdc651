//! Control groups: one of the cluster's own, with all nodes and pods below it, in every hierarchy this machine has.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

const ROOT: &str = "/sys/fs/cgroup";

/// The mounted hierarchies: one for each controller in version 1, one in all in version 2.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    below(root)
        .into_iter()
        .filter(|hierarchy| hierarchy.join("cgroup.procs").exists())
        .filter(|hierarchy| fs::symlink_metadata(hierarchy).is_ok_and(|data| data.is_dir()))
        .collect()
}

/// Makes a group in every hierarchy.
pub(crate) fn create(name: &str) -> anyhow::Result<()> {
    let hierarchies = hierarchies();
    anyhow::ensure!(!hierarchies.is_empty(), "no control groups are mounted in {ROOT}");
    for hierarchy in hierarchies {
        let mut group = hierarchy;
        for step in Path::new(name) {
            let parent = group.clone();
            group = group.join(step);
            fs::create_dir_all(&group).with_context(|| group.display().to_string())?;
            inherit(&parent, &group)?;
        }
    }
    Ok(())
}

/// Gives a new group what its parent has: in version 1 a group without processors and memory nodes takes no process,
/// in version 2 a group has the controllers that its parent hands down.
fn inherit(parent: &Path, group: &Path) -> anyhow::Result<()> {
    for setting in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(setting), group.join(setting));
        if !parent.join("cgroup.controllers").exists() && from.exists() {
            let value = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
            fs::write(&to, value.trim()).with_context(|| to.display().to_string())?;
        }
    }
    if let Ok(controllers) = fs::read_to_string(parent.join("cgroup.controllers")) {
        for controller in controllers.split_whitespace() {
            // Some cannot be handed down here; the kubelet names the one it misses.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    Ok(())
}

/// The processes of a group and of all below it.
pub(crate) fn processes(name: &str) -> Vec<u32> {
    let mut found: Vec<u32> = hierarchies()
        .iter()
        .flat_map(|hierarchy| tree(&hierarchy.join(name)))
        .filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok())
        .flat_map(|lines| {
            lines
                .lines()
                .filter_map(|line| line.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Removes a group, which no process may be in, and all below it.
pub(crate) fn remove(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies() {
        for group in tree(&hierarchy.join(name)).iter().rev() {
            fs::remove_dir(group).with_context(|| format!("{} cannot be removed", group.display()))?;
        }
    }
    Ok(())
}

/// A group and all below it, parents first; nothing if it is not there.
fn tree(group: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![group.to_owned()];
    while let Some(group) = next.pop().filter(|group| group.is_dir()) {
        next.extend(below(&group));
        found.push(group);
    }
    found
}

fn below(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect()
        })
        .unwrap_or_default()
}
