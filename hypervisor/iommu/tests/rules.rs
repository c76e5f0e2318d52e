//! The table of rules names tests that exist.
#![allow(missing_docs)]

#[test]
fn every_rule_names_a_test_that_exists() {
    let sources = [
        include_str!("ioasid.rs"),
        include_str!("registry.rs"),
        include_str!("attach.rs"),
        include_str!("faults.rs"),
        include_str!("pasid.rs"),
        include_str!("sva.rs"),
        include_str!("guest_entry.rs"),
        include_str!("../../vm/tests/hypercall/main.rs"),
        include_str!("../../vm/tests/hypercall/storm.rs"),
        include_str!("../../../tests/host/tests/sharing.rs"),
    ];
    let rows = include_str!("../RULES.md").lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows
        .filter(|row| !row.starts_with("| rule ") && !row.contains("by construction"))
        .collect();
    assert!(rows.len() > 50, "the table was not read");
    for row in rows {
        let tests = row.split('|').nth(2).unwrap_or_default();
        let names = tests.split('`').skip(1).step_by(2);
        let names: Vec<&str> = names.filter_map(|name| name.rsplit(' ').next()).collect();
        assert!(!names.is_empty(), "no test: {row}");
        for name in names {
            let wanted = format!("fn {name}(");
            assert!(sources.iter().any(|source| source.contains(&wanted)), "no such test: {name}");
        }
    }
}
