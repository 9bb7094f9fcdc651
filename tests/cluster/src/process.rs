//! Processes: started, told from one another, and ended by their id.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};
use serde::{Deserialize, Serialize};

/// What every process of a cluster has in its environment, with the cluster's folder as the value: so is found what a
/// harness that was killed had started but not yet recorded, and what containerd and the kubelet start themselves.
pub(crate) const MARK: &str = "HONEYGRAPH_TEST_CLUSTER";

/// One process, and no other that gets its id after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    pid: i32,
    /// When it started, in clock ticks since this machine did.
    started: u64,
}

impl ProcessIdentity {
    /// The process that has this id now; none if there is none, or if it has ended and was not yet waited for.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let started = start_of_running(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        Some(Self { pid, started })
    }

    /// This process.
    pub(crate) fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    pub(crate) fn is_alive(self) -> bool {
        // A child of ours that has ended stays in the table until it is waited for; another's child does not.
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        u32::try_from(self.pid).ok().and_then(Self::of) == Some(self)
    }

    /// Kills it. It is no error if it has ended.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends it a signal. It is no error if it has ended.
    pub(crate) fn signal(self, signal: Signal) -> anyhow::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        // The handle stays with the process that it was opened for, whoever gets the id after it.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(Errno::SRCH) => return Ok(()),
            Err(error) => anyhow::bail!("process {} cannot be opened: {error}", self.pid),
        };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(handle, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => anyhow::bail!("process {} takes no signal: {error}", self.pid),
        }
    }
}

/// When a process started, by its `/proc/<pid>/stat`; none if it has ended (`proc_pid_stat(5)`: fields 3 and 22).
fn start_of_running(stat: &str) -> Option<u64> {
    // Field 2 is the program's name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The processes that carry the mark of the cluster in `folder`.
pub(crate) fn marked(folder: &Path) -> Vec<ProcessIdentity> {
    let mark = [MARK.as_bytes(), b"=", folder.as_os_str().as_encoded_bytes()].concat();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| pid != std::process::id())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| environment.split(|&byte| byte == 0).any(|entry| entry == mark))
        })
        .filter_map(ProcessIdentity::of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_start_is_read_whatever_the_program_is_called() {
        let stat = "4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        assert_eq!(start_of_running(stat), Some(98765));
        assert_eq!(start_of_running(&stat.replace(") S", ") Z")), None);
        assert_eq!(start_of_running("4711 (a"), None);
    }

    #[test]
    fn a_process_is_killed_and_one_with_its_id_later_is_not() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = ProcessIdentity::of(child.id()).unwrap();
        let other = ProcessIdentity {
            started: process.started + 1,
            ..process
        };
        other.kill().unwrap();
        assert!(process.is_alive());
        process.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
        process.kill().unwrap();
    }

    #[test]
    fn a_process_is_found_by_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep")
            .arg("1000")
            .env(MARK, folder.path())
            .spawn()
            .unwrap();
        // A process that just becomes another program has no environment for a moment.
        let found = loop {
            let found = marked(folder.path());
            if !found.is_empty() {
                break found;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            found.iter().map(|process| process.pid()).collect::<Vec<_>>(),
            [i32::try_from(child.id()).unwrap()]
        );
        assert_eq!(marked(folder.path()), []);
    }
}
