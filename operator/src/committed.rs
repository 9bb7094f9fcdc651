//! Files of the repository that are made from code.

use std::path::Path;

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_default()
}

/// Compares a file of the repository with what it must be; with `UPDATE_DOCS` set, writes it.
pub(crate) fn assert_committed(path: &str, made: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file(path), made).expect("the file is writable");
    }
    assert!(
        read(path) == made,
        "{path} is not what the code makes; run `UPDATE_DOCS=1 cargo test -p honeygraph-operator`"
    );
}

/// The metrics that a text names.
pub(crate) fn metrics_in(text: &str) -> Vec<String> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("honeygraph_"))
        .map(str::to_owned)
        .collect()
}

/// Asserts that each of these metrics is one that an agent (`docs/metrics.md`) or the operator (`docs/operator.md`) has.
pub(crate) fn assert_metrics_exist(named: &[String]) {
    let known = ["docs/metrics.md", "docs/operator.md"].map(|page| metrics_in(&read(page)));
    for metric in named {
        // What a histogram is written as.
        let whole = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| metric.strip_suffix(part))
            .unwrap_or(metric);
        assert!(
            known.iter().flatten().any(|known| known == whole),
            "{metric} is measured by nobody"
        );
    }
}

fn file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
