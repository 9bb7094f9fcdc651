//! Processor time and memory of processes, as Linux tells them.

use std::time::Duration;

use crate::cluster::Cluster;

/// Clock ticks a second in `/proc`; the same on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// Processor time used so far, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// By zero and alpha.
    pub(crate) dgraph: f64,
    /// By this process.
    pub(crate) own: f64,
}

impl Usage {
    pub(crate) fn now(cluster: &Cluster) -> Self {
        Self {
            dgraph: seconds(&cluster.alpha_id().to_string()) + seconds(&cluster.zero_id().to_string()),
            own: seconds("self"),
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            dgraph: self.dgraph - before.dgraph,
            own: self.own - before.own,
        }
    }
}

/// Processor time of a process.
pub(crate) fn seconds(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name may have spaces in it; the times are fields 14 and 15 of the whole line.
    let after_name = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: f64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    ticks / TICKS
}

/// A size that `/proc/<process>/status` tells, in MiB.
pub(crate) fn mebibytes(process: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| {
        line.strip_prefix(field)?
            .trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    kibibytes.unwrap_or_default() >> 10
}

/// How long so many bytes take on this machine's disk, each piece made durable.
pub(crate) fn durable_write(directory: &std::path::Path, piece: usize, pieces: u32) -> Duration {
    let mut file = std::fs::File::create(directory.join("probe")).unwrap();
    let bytes = vec![7; piece];
    let began = std::time::Instant::now();
    for _ in 0..pieces {
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        file.sync_data().unwrap();
    }
    began.elapsed() / pieces
}
