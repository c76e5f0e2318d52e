//! The table of failure modes names tests that exist.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;

/// Whether a Rust file somewhere under `folder` holds `text`.
fn holds(folder: &Path, text: &str) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return holds(&path, text);
        }
        path.extension().is_some_and(|extension| extension == "rs")
            && fs::read_to_string(&path).is_ok_and(|found| found.contains(text))
    })
}

#[test]
fn every_failure_mode_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(root.join("tests/host/FAILURE-MODES.md")).unwrap();
    let rows_of = |file: &str| fs::read_to_string(root.join("tests/host/tests/rows").join(file));
    let planted = ["commands.rs", "stores.rs"].map(|file| rows_of(file).unwrap()).concat();
    let mut numbers = Vec::new();
    for row in table.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Some(number) = cells.get(1).and_then(|cell| cell.parse::<u32>().ok()) else {
            continue;
        };
        numbers.push(number);
        let tests: Vec<&str> = cells[4].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "row {number} names no test");
        for test in tests {
            if let Some(name) = test.strip_prefix("planted ") {
                // The rows of skipped barriers and cleans are found by running.
                let known = name.starts_with("skip-") || planted.contains(&format!("\"{name}\""));
                assert!(known, "row {number}: nothing is planted as {name}");
                continue;
            }
            let (file, name) = test.split_once("::").unwrap();
            // A file may have become a folder meanwhile; the room it is in counts.
            let room: std::path::PathBuf = Path::new(file).components().take(2).collect();
            let found = holds(&root.join(room), &format!("fn {name}("));
            assert!(found, "row {number}: no test {name} around {file}");
        }
    }
    assert_eq!(numbers, (1..=23).collect::<Vec<u32>>());
}
