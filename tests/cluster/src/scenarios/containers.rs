//! Processes of pods, as this machine sees them: its nodes share its kernel.

use std::fs;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal to the processes of a pod.
pub(super) fn signal(pod: &str, signal: Signal) -> anyhow::Result<()> {
    let processes = processes(pod)?;
    anyhow::ensure!(
        !processes.is_empty(),
        "no process of pod {pod} is on this machine"
    );
    for process in processes {
        kill_process(process, signal).with_context(|| format!("process {process:?} of pod {pod}"))?;
    }
    Ok(())
}

/// How the names of our programs begin; the container that holds a pod's namespaces is none of them.
const PROGRAMS: &str = "honeygraph";

/// The processes of our programs that know themselves by the name of a pod.
fn processes(pod: &str) -> anyhow::Result<Vec<Pid>> {
    let name = format!("HOSTNAME={pod}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile has neither.
        let program = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if !program.starts_with(PROGRAMS) {
            continue;
        }
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|word| word == name.as_bytes())
        {
            found.extend(Pid::from_raw(number));
        }
    }
    Ok(found)
}
