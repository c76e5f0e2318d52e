//! The list of rooms that may use unsafe code.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// Rooms with unsafe code in them.
const MAY: &[&str] = &[
    "hal",
    "mem",
    "gic",
    "pci",
    "smmuv3",
    "core",
    "boot",
    "qemu-virt",
    "rpi4",
    "uefi",
    "payloads",
    "user",
    "on-target",
    "bench",
];

/// Complaints: a room that must not use unsafe and does not forbid it at its root.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for package in &workspace.packages {
        let room = package.name.trim_start_matches("palisade-");
        if MAY.contains(&room) {
            continue;
        }
        // Programs beside a library have it as their root; each root forbids for itself.
        for target in &package.targets {
            let kinds = ["lib", "bin"];
            if !target.kind.iter().any(|kind| kinds.contains(&kind.as_str())) {
                continue;
            }
            let text = fs::read_to_string(&target.src_path)
                .with_context(|| format!("cannot read {}", target.src_path.display()))?;
            if !text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
                let file = target.src_path.strip_prefix(&workspace.root);
                let file = file.unwrap_or(&target.src_path).display();
                complaints.push(format!("{file}: #![forbid(unsafe_code)] is missing"));
            }
        }
    }
    Ok(complaints)
}
