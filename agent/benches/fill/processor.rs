//! Processor time of processes and their threads, as Linux counts it.

use std::collections::BTreeMap;
use std::time::Duration;

/// Clock ticks a second of `/proc/PID/stat`; the same on every Linux that this is run on.
const TICKS: u64 = 100;

/// Threads of a node that are told apart: what applies blocks, what commits them, and the store's own.
pub(crate) const NODE_THREADS: [&str; 3] = ["replica", "commit", "fjall:worker"];

/// Processor time that a process has used.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProcessorTime {
    /// By all threads, also those that have ended.
    pub(crate) total: Duration,
    threads: BTreeMap<String, Duration>,
}

impl ProcessorTime {
    /// Of a process until now.
    pub(crate) fn of(process: u32) -> Self {
        let mut threads = BTreeMap::new();
        let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let nanoseconds = read("schedstat")
                .split_whitespace()
                .next()
                .and_then(|text| text.parse().ok());
            *threads.entry(read("comm").trim().to_owned()).or_default() +=
                Duration::from_nanos(nanoseconds.unwrap_or_default());
        }
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The name, in brackets, may have spaces; user and system time are the 12th and 13th field after it.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|text| text.parse::<u64>().ok()).sum();
        Self {
            total: Duration::from_millis(ticks * 1_000 / TICKS),
            threads,
        }
    }

    /// What was used since an earlier moment.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let threads = self.threads.iter().map(|(name, time)| {
            let before = before.threads.get(name).copied().unwrap_or_default();
            (name.clone(), time.saturating_sub(before))
        });
        Self {
            total: self.total.saturating_sub(before.total),
            threads: threads.collect(),
        }
    }

    /// By the threads with a name.
    pub(crate) fn thread(&self, name: &str) -> Duration {
        self.threads.get(name).copied().unwrap_or_default()
    }
}
