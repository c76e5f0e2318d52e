//! The fuzz targets' corpus, replayed: nothing in it breaks an invariant, and it reaches every
//! kind of operation and of refusal.
#![allow(missing_docs)]

use std::path::PathBuf;

use palisade_host::fuzz::{Reached, TARGETS, Target, seeds};

/// Generated inputs: target, seed, how many, bytes of each, ways that the first byte chooses.
const GENERATED: [(&str, u64, usize, usize, u8); 5] = [
    ("pgtable", 1, 30, 900, 48),
    ("hypercall", 2, 24, 2400, 4),
    ("fdt", 3, 60, 60, 3),
    ("bundle", 4, 36, 60, 18),
    ("virtual_smmu", 5, 24, 2400, 4),
];

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn target(name: &str) -> Target {
    TARGETS.iter().find(|(other, _)| *other == name).expect("a target").1
}

/// Replays a target's corpus, and as many generated inputs as that again from other seeds.
fn replay(name: &str, wanted: &[&str]) {
    let run = target(name);
    let mut reached = Reached::default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder(name))
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in &files {
        eprintln!("{}", file.display());
        run(&std::fs::read(file).expect("an input"), &mut reached);
    }
    for what in wanted {
        assert!(reached.count(what) > 0, "{what} is never reached: {reached:?}");
    }
    let (_, _, count, bytes, kinds) =
        GENERATED.into_iter().find(|(other, ..)| *other == name).expect("its numbers");
    let rounds = if std::env::var_os("PALISADE_LONG").is_some() { 2000 } else { 20 };
    for seed in 100..100 + rounds {
        for (nth, input) in seeds(seed, count, bytes, kinds).iter().enumerate() {
            eprintln!("{name} {seed} {nth}");
            run(input, &mut reached);
        }
    }
}

#[test]
fn pgtable() {
    replay(
        "pgtable",
        &[
            "table",
            "no table",
            "map pages",
            "map range",
            "exists",
            "no memory",
            "map refused",
            "unmap",
            "unmap nothing",
            "unmap refused",
            "partial block",
            "split failed",
            "harvest",
            "leaves",
            "collapse",
            "collapse refused",
        ],
    );
}

#[test]
fn hypercall() {
    replay(
        "hypercall",
        &[
            "bound",
            "unbound",
            "exited",
            "contexts",
            "entry",
            "commands",
            "invalidated",
            "polled",
            "not found",
            "invalid",
            "busy",
            "refused",
        ],
    );
}

#[test]
fn fdt() {
    replay("fdt", &["board", "malformed", "compacted"]);
}

#[test]
fn bundle() {
    replay("bundle", &["vm", "vm refused", "placed", "malformed"]);
}

#[test]
fn virtual_smmu() {
    replay(
        "virtual_smmu",
        &[
            "commands",
            "synchronised",
            "batches",
            "entries",
            "refused",
            "illegal",
            "continued",
            "told",
            "lost",
        ],
    );
}

/// With `PALISADE_WRITE_CORPUS` set it writes them anew.
#[test]
fn the_corpus_holds_what_is_generated() {
    let write = std::env::var_os("PALISADE_WRITE_CORPUS").is_some();
    for (name, seed, count, bytes, kinds) in GENERATED {
        for (nth, input) in seeds(seed, count, bytes, kinds).iter().enumerate() {
            let path = folder(name).join(format!("seed-{nth:02}"));
            if write {
                std::fs::create_dir_all(folder(name)).expect("a folder");
                std::fs::write(&path, input).expect("a file");
            }
            let held = std::fs::read(&path).unwrap_or_default();
            assert!(held == *input, "{}: not what is generated", path.display());
        }
    }
}
