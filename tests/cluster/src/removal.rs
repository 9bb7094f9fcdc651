//! Ends a cluster and gives back all that it has taken, also what a harness that was killed left behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::mount::{UnmountFlags, unmount};

use crate::addresses;
use crate::control_groups;
use crate::home::Folder;
use crate::parts::{find_program, run};
use crate::process::{ProcessIdentity, marked};
use crate::record::{self, Resource};

/// How long ended processes, mounts and devices may take to go.
const PATIENCE: Duration = Duration::from_secs(30);

/// What kubelets and containerd make outside the cluster's folder, whatever their settings say; a folder goes when it
/// is empty, and a socket with it when nobody of ours listens any more.
const OUTSIDE: [&str; 6] = [
    "/var/lib/kubelet/device-plugins/kubelet.sock",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/run/containerd/s",
    "/run/containerd",
];

/// Time between two looks at what is left.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Removes the cluster in `folder`. What cannot be removed is named, and the rest is removed all the same; the record
/// stays as long as anything of it is left. It is no error if there is no such cluster.
pub(crate) fn remove(folder: &Folder) -> anyhow::Result<()> {
    let name = || folder.path().display().to_string();
    let lock = match File::open(folder.path()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened.with_context(name)?,
    };
    // After Ctrl-C the guard and the next start may both be at it.
    lock.lock().with_context(name)?;
    if !folder.exists() {
        return Ok(());
    }
    let resources = record::read(folder)?;
    let mut left = Vec::new();
    let mut note = |outcome: anyhow::Result<()>| {
        if let Err(error) = outcome {
            left.push(format!("{error:#}"));
        }
    };
    note(end_processes(folder, &resources));
    note(unmount_all(folder));
    let of_nodes = resources
        .iter()
        .any(|resource| matches!(resource, Resource::Device { .. }));
    if of_nodes {
        note(forget_log_links(folder));
        note(wait_for_pod_devices());
    }
    for resource in resources.iter().rev() {
        note(give_back(resource));
    }
    if of_nodes {
        for path in OUTSIDE.map(Path::new) {
            // Whatever is not empty is somebody else's too.
            let _ = if path.is_dir() {
                fs::remove_dir(path)
            } else {
                fs::remove_file(path)
            };
        }
    }
    if left.is_empty() {
        fs::remove_dir_all(folder.path()).with_context(name)
    } else {
        anyhow::bail!("not all of {} could be removed:\n  {}", name(), left.join("\n  "))
    }
}

/// The process that the cluster ends with, if there is one.
pub(crate) fn owner(folder: &Folder) -> anyhow::Result<Option<ProcessIdentity>> {
    Ok(record::read(folder)?
        .into_iter()
        .find_map(|resource| match resource {
            Resource::Owner(owner) => Some(owner),
            _ => None,
        }))
}

/// Kills the parts, latest first, then pods, and whatever else carries the cluster's mark.
fn end_processes(folder: &Folder, resources: &[Resource]) -> anyhow::Result<()> {
    // Sockets of containerd's shims lie outside the folder, and only the shims' own folders know their names.
    let sockets = shim_sockets(folder);
    for resource in resources.iter().rev() {
        if let Resource::Process { process, .. } = resource {
            process.kill()?;
        }
    }
    let groups: Vec<_> = resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::ControlGroup { name } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let began = Instant::now();
    let mut was_quiet = false;
    loop {
        // Again and again: what is found may start another process before it is killed.
        let mut alive = marked(folder.path());
        for group in &groups {
            alive.extend(
                control_groups::processes(group)
                    .into_iter()
                    .filter_map(ProcessIdentity::of),
            );
        }
        for resource in resources {
            if let Resource::Process { process, .. } = resource
                && process.is_alive()
            {
                alive.push(*process);
            }
        }
        // Twice: a process that just becomes another program has no mark for a moment.
        if alive.is_empty() && was_quiet {
            break;
        }
        was_quiet = alive.is_empty();
        anyhow::ensure!(began.elapsed() < PATIENCE, "processes do not end: {alive:?}");
        for process in alive {
            process.kill()?;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    for socket in sockets {
        remove_file(&socket)?;
    }
    Ok(())
}

/// The sockets of containerd's shims: each names its own in a file `address` of its container's folder.
fn shim_sockets(folder: &Folder) -> Vec<PathBuf> {
    let nodes = list(&folder.join("nodes"));
    nodes
        .iter()
        .flat_map(|node| list(&node.join("run/io.containerd.runtime.v2.task/k8s.io")))
        .filter_map(|container| fs::read_to_string(container.join("address")).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .collect()
}

/// Unmounts all that is mounted in the folder: volumes, root file systems and network namespaces of pods.
fn unmount_all(folder: &Folder) -> anyhow::Result<()> {
    let path = folder.path();
    let began = Instant::now();
    loop {
        let mounted = mounts_below(path, &fs::read_to_string("/proc/self/mountinfo")?);
        let Some(last) = mounted.last() else {
            return Ok(());
        };
        anyhow::ensure!(began.elapsed() < PATIENCE, "{} stays mounted", last.display());
        // What was mounted later may lie on what was mounted earlier.
        for mount in mounted.iter().rev() {
            unmount(mount, UnmountFlags::DETACH)
                .with_context(|| format!("{} cannot be unmounted", mount.display()))?;
        }
    }
}

/// The mount points below a folder, in the order they were mounted in (`proc_pid_mountinfo(5)`: field 5).
fn mounts_below(folder: &Path, mount_information: &str) -> Vec<PathBuf> {
    mount_information
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| PathBuf::from(unescape(field)))
        .filter(|mount| mount.starts_with(folder))
        .collect()
}

/// The kernel writes a blank in a path as `\040`.
fn unescape(field: &str) -> String {
    field
        .replace(r"\040", " ")
        .replace(r"\011", "\t")
        .replace(r"\012", "\n")
        .replace(r"\134", r"\")
}

/// The kubelet links the logs of containers in `/var/log/containers`, wherever its own folder is.
fn forget_log_links(folder: &Folder) -> anyhow::Result<()> {
    for link in list(Path::new("/var/log/containers")) {
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(folder.path())) {
            remove_file(&link)?;
        }
    }
    Ok(())
}

/// The kernel takes a pod's device away some time after its network namespace.
fn wait_for_pod_devices() -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let routes = run(Command::new("ip").args(["-4", "route", "show", "root", addresses::PODS]))?;
        if routes.trim().is_empty() {
            return Ok(());
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "devices of pods stay:\n{routes}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Gives one thing back. It is no error if it is gone.
fn give_back(resource: &Resource) -> anyhow::Result<()> {
    match resource {
        Resource::Owner(_) | Resource::Process { .. } => Ok(()),
        Resource::Setting { file, before } => {
            fs::write(file, before).with_context(|| format!("{} cannot be set back", file.display()))
        }
        Resource::Device { name } => {
            if Path::new("/sys/class/net").join(name).exists() {
                run(Command::new("ip").args(["link", "delete", name.as_str()]))?;
            }
            Ok(())
        }
        Resource::Rule { chain, rule } => {
            // Every one of them: a harness that was killed may have left one of its own.
            while has_rule(chain, rule) {
                run(iptables("-D", chain, rule).arg("--wait"))?;
            }
            Ok(())
        }
        Resource::Table { family, name } => {
            if has_table(family, name) {
                run(Command::new("nft").args(["delete", "table", family.as_str(), name.as_str()]))?;
            }
            Ok(())
        }
        Resource::ControlGroup { name } => control_groups::remove(name),
    }
}

/// A command on a rule of the table `filter`.
pub(crate) fn iptables(action: &str, chain: &str, rule: &[String]) -> Command {
    let mut command = Command::new("iptables");
    command.args([action, chain]).args(rule);
    command
}

/// Whether iptables has a rule.
pub(crate) fn has_rule(chain: &str, rule: &[String]) -> bool {
    find_program("iptables").is_some() && run(iptables("-C", chain, rule).arg("--wait")).is_ok()
}

/// Whether nftables has a table.
pub(crate) fn has_table(family: &str, name: &str) -> bool {
    find_program("nft").is_some() && run(Command::new("nft").args(["list", "table", family, name])).is_ok()
}

/// What is in a folder; nothing if it is not there.
fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::MARK;
    use crate::record::Record;

    #[test]
    fn only_mounts_in_the_folder_are_its_own_latest_last() {
        let mounts = "1 0 0:1 / / rw - ext4 /dev/a rw\n\
            2 1 0:2 / /home/one/a\\040b rw shared:1 - tmpfs tmpfs rw\n\
            3 2 0:3 / /home/one/a\\040b/c rw - tmpfs tmpfs rw\n\
            4 1 0:4 / /home/one-more rw - tmpfs tmpfs rw\n";
        assert_eq!(
            mounts_below(Path::new("/home/one"), mounts),
            [PathBuf::from("/home/one/a b"), PathBuf::from("/home/one/a b/c"),]
        );
    }

    #[test]
    fn what_is_recorded_and_what_is_only_marked_ends_and_settings_are_set_back() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::at(directory.path().join("one"));
        folder.create().unwrap();
        let setting = directory.path().join("setting");
        fs::write(&setting, "1\n").unwrap();
        let mut record = Record::open(&folder).unwrap();
        for before in ["0\n", "1\n"] {
            let file = setting.clone();
            let before = before.to_owned();
            record.write(&Resource::Setting { file, before }).unwrap();
        }
        let start = |marked: bool| {
            let mut command = Command::new("sleep");
            command.arg("1000");
            if marked {
                command.env(MARK, folder.path());
            }
            let child = command.spawn().unwrap();
            (ProcessIdentity::of(child.id()).unwrap(), child)
        };
        let (recorded, mut one) = start(false);
        let (only_marked, mut two) = start(true);
        let (stranger, mut three) = start(false);
        record
            .write(&Resource::Process {
                part: "sleep".to_owned(),
                process: recorded,
            })
            .unwrap();
        remove(&folder).unwrap();
        assert!(!recorded.is_alive() && !only_marked.is_alive() && stranger.is_alive());
        assert!(!folder.exists());
        remove(&folder).unwrap();
        assert_eq!(fs::read_to_string(&setting).unwrap(), "0\n");
        three.kill().unwrap();
        for child in [&mut one, &mut two, &mut three] {
            let _ = child.wait();
        }
    }

    #[test]
    fn what_cannot_be_given_back_is_named_and_keeps_the_record() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::at(directory.path().join("one"));
        folder.create().unwrap();
        let file = directory.path().join("none/setting");
        let before = "0".to_owned();
        let mut record = Record::open(&folder).unwrap();
        record.write(&Resource::Setting { file, before }).unwrap();
        let error = remove(&folder).unwrap_err();
        assert!(
            error.to_string().contains("none/setting cannot be set back"),
            "{error}"
        );
        assert_eq!(record::read(&folder).unwrap().len(), 1);
    }
}
