//! What the pages in `docs/` say of the code is so.

use std::path::Path;

/// The invariants of `docs/architecture.md` name tests by `file`: `test`, `test`; ...
#[test]
fn the_invariants_name_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let (_, table) = page.split_once("\n## Invariants\n").unwrap();
    let mut invariants = 0;
    for row in table.lines().filter(|line| line.starts_with("| I")) {
        let tested_in = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let mut source = String::new();
        for named in tested_in.split('`').skip(1).step_by(2) {
            if Path::new(named).extension().is_some() {
                let found = std::fs::read_to_string(root.join(named));
                source = found.unwrap_or_else(|error| panic!("{named}: {error}"));
            } else {
                assert!(source.contains(&format!("fn {named}(")), "no test {named}: {row}");
            }
        }
        assert!(!source.is_empty(), "no file: {row}");
        invariants += 1;
    }
    assert_eq!(invariants, 16);
}
