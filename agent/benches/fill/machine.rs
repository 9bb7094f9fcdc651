//! What the figures were measured on.

/// Prints processors and memory.
pub(crate) fn print_machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let memory = read("/proc/meminfo");
    let total = memory.lines().next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    println!(
        "{cores} cores,{}; {total}; load before: {}",
        model.trim_start_matches(['\t', ' ', ':']),
        load.trim()
    );
}
