//! The table of failure modes names tests that exist.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;

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
            let text = fs::read_to_string(root.join(file));
            let text = text.unwrap_or_else(|_| panic!("row {number}: no file {file}"));
            let found = text.contains(&format!("fn {name}("));
            assert!(found, "row {number}: no test {name} in {file}");
        }
    }
    assert_eq!(numbers, (1..=23).collect::<Vec<u32>>());
}
