//! Places that ask the CPU for a barrier or a clean, found by running without a fault.

use std::collections::BTreeMap;

use palisade_host::{Sabotage, Site, World};

use super::{Row, setup};

/// The runs that find the places; the first that has one has to notice when it is skipped.
const TESTS: [&str; 3] = ["instants", "splits", "isolation-non-coherent"];

/// What cannot be noticed from the SMMU's side, and why it is there all the same.
fn excused(site: &Site) -> bool {
    let in_file = |name: &str| site.file.ends_with(name);
    match site.what {
        // The fake CPU performs loads in order: nothing to see.
        "dmb-oshld" | "isb" => true,
        // Frames are cleaned when they are zeroed, and the event queue starts as zeroes.
        "clean" if in_file("smmuv3/src/queue/input.rs") => true,
        // The command queue has a barrier of its own between the last store of a command and
        // PROD, and every invalidation goes through it.
        "dsb-ishst" => in_file("pgtable/src/gather.rs") || in_file("pgtable/src/split.rs"),
        "dsb-st" => {
            in_file("smmuv3/src/device/stream.rs")
                || in_file("smmuv3/src/device/live.rs")
                || in_file("smmuv3/src/table/stream.rs")
                || in_file("smmuv3/src/queue/input.rs")
        }
        _ => false,
    }
}

/// Cleans matter where the SMMU does not see the caches, and only there.
fn applies(site: &Site, test: &str) -> bool {
    let clean = site.what.starts_with("clean");
    clean == (test == "isolation-non-coherent")
}

pub fn rows() -> Vec<Row> {
    let mut found: BTreeMap<Site, &'static str> = BTreeMap::new();
    for test in TESTS {
        for seed in 0..3 {
            let Ok(mut world) = World::new(&setup(test, seed)) else { continue };
            for _ in 0..60 {
                if world.step().is_err() {
                    break;
                }
            }
            for site in world.machine().sites().into_keys() {
                if applies(&site, test) && !excused(&site) {
                    found.entry(site).or_insert(test);
                }
            }
        }
    }
    found
        .into_iter()
        .map(|(site, test)| Row {
            name: format!("skip-{}-{}-{}", site.what, place(site.file), site.line),
            fault: Sabotage::Skip(site),
            test,
            assertions: &[
                "reach",
                "lost",
                "config",
                "error",
                "bring-up",
                "driver-fault",
                "event",
                "proof",
            ],
        })
        .collect()
}

/// `hypervisor/smmuv3/src/queue/command.rs` as `smmuv3-queue-command`.
fn place(file: &str) -> String {
    let file = file.trim_start_matches("hypervisor/").trim_end_matches(".rs");
    file.replace("/src/", "-").replace('/', "-")
}
