//! What this process takes of memory.

use std::fs;

/// The most that a bad input may add, in bytes.
pub(crate) const MOST_GROWTH: u64 = 64 << 20;

/// Forgets the highest resident size, and gives the present one in bytes.
pub(crate) fn start_to_measure() -> u64 {
    // See proc(5): 5 resets the peak.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    field("VmRSS")
}

/// The highest resident size since then, in bytes.
pub(crate) fn peak() -> u64 {
    field("VmHWM")
}

fn field(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes << 10
}
