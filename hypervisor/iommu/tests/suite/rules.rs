//! The table of rules names tests that exist, and some rules about words are checked here.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn texts(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| sources(&workspace().join(folder), &mut found));
    let read = |path: PathBuf| fs::read_to_string(&path).map(|text| (path, text));
    found.into_iter().map(|path| read(path).expect("readable")).collect()
}

/// `name` is a function with `#[test]` on a line of its own right before it.
fn is_a_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let wanted = format!("fn {name}()");
    lines.windows(2).any(|pair| pair[0] == "#[test]" && pair[1].starts_with(&wanted))
}

#[test]
fn every_rule_names_a_test_that_exists() {
    let folders = [
        "hypervisor/iommu/tests",
        "hypervisor/smmuv3/tests",
        "hypervisor/vm/src",
        "hypervisor/vm/tests",
        "tests/host/tests",
    ];
    let texts = texts(&folders);
    assert!(texts.len() > 20, "the tests were not found");
    let rows = include_str!("../../RULES.md").lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows
        .filter(|row| !row.starts_with("| rule ") && !row.contains("by construction"))
        .collect();
    assert!(rows.len() > 65, "the table was not read");
    for row in rows {
        let tests = row.split('|').nth(2).unwrap_or_default();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            // `folder: name` looks in that folder alone.
            let (folder, name) = name.rsplit_once(": ").unwrap_or(("", name));
            let here = |path: &Path| path.to_string_lossy().contains(folder);
            let known = texts.iter().any(|(path, text)| here(path) && is_a_test(text, name));
            assert!(known, "no such test: {name} in {folder:?}");
        }
    }
}

/// A row that names nothing, or a function that is no test, is found.
#[test]
fn a_name_is_a_test_only_with_its_attribute() {
    let text = "#[test]\nfn real() {\n}\n\nfn helper() {\n}\n#[test]\nfn real_too() {}";
    assert!(is_a_test(text, "real") && is_a_test(text, "real_too"));
    assert!(!is_a_test(text, "helper") && !is_a_test(text, "rea") && !is_a_test(text, "too"));
}

/// A table is never called "tbl": it reads as "tlb".
#[test]
fn a_table_is_called_a_table() {
    let rooms = ["hypervisor/iommu/src", "hypervisor/smmuv3/src", "hypervisor/pgtable/src"];
    let short = ["t", "bl"].concat();
    let texts = texts(&rooms);
    assert!(texts.len() > 60, "the rooms were not found");
    for (path, text) in texts {
        for line in text.lines().map(str::to_lowercase) {
            assert!(!line.contains(&short), "{}: {line}", path.display());
        }
    }
}
