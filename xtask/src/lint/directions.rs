//! Who may see whom, checked against cargo's own view of the workspace.

use crate::workspace::{Package, Workspace};

/// Each room and the rooms that it may see, in the order of the house. Dev-dependencies are free:
/// a room's tests may look at whatever proves the point.
const ROOMS: &[(&str, &[&str])] = &[
    ("abi", &[]),
    ("hal", &[]),
    ("spec", &[]),
    ("board", &["hal"]),
    ("mem", &["hal"]),
    ("pgtable", &["hal", "mem"]),
    ("iommu", &["abi", "board", "hal", "mem", "pgtable"]),
    ("smmuv3", &["board", "hal", "mem", "pgtable", "iommu", "spec"]),
    ("gic", &["board", "hal", "mem"]),
    ("pci", &["board", "hal", "mem"]),
    ("fdt", &["board", "hal"]),
    ("acpi", &["board", "hal"]),
    ("uefi", &["acpi", "board", "fdt"]),
    ("bundle", &["board", "fdt", "hal"]),
    ("boot", &["hal"]),
    ("vm", &["abi", "board", "bundle", "gic", "hal", "iommu", "mem", "pci", "pgtable", "spec"]),
    (
        "core",
        &[
            "abi", "board", "boot", "bundle", "fdt", "gic", "hal", "iommu", "mem", "pci",
            "pgtable", "smmuv3", "vm",
        ],
    ),
    ("qemu-virt", &["board", "boot", "core", "fdt", "hal"]),
    ("rpi4", &["board", "boot", "core", "fdt", "hal"]),
    ("payloads", &["abi"]),
    ("user", &[]),
    ("on-target", &["boot", "hal", "iommu", "mem", "pgtable", "smmuv3"]),
    ("smmu-model", &[]),
    ("e2e", &[]),
    // It must not see the driver either: both witnesses are of the manual alone.
    ("model-against-qemu", &["e2e", "smmu-model"]),
];

/// Rooms outside the hypervisor that may see everything but each other's insides.
const FREE: &[&str] = &["bench", "host", "xtask"];

const PREFIX: &str = "palisade-";

/// Complaints about dependencies that point the wrong way.
pub fn check(workspace: &Workspace) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in &workspace.packages {
        let Some(room) = package.name.strip_prefix(PREFIX) else {
            complaints.push(format!("{}: a package is called {PREFIX}<folder>", package.name));
            continue;
        };
        let folder = package.manifest_path.parent().and_then(|folder| folder.file_name());
        if folder.and_then(|folder| folder.to_str()) != Some(room) {
            complaints.push(format!("{}: its folder has another name", package.name));
        }
        complaints.extend(check_room(package, room));
    }
    complaints
}

fn check_room(package: &Package, room: &str) -> Vec<String> {
    if FREE.contains(&room) {
        return Vec::new();
    }
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{room}: not in the list of rooms; say there what it may see")];
    };
    let seen = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
        .filter_map(|dependency| dependency.name.strip_prefix(PREFIX));
    seen.filter(|seen| !allowed.contains(seen))
        .map(|seen| format!("{room} must not see {seen}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(room: &str, sees: &str, kind: Option<&str>) -> Package {
        Package {
            name: format!("{PREFIX}{room}"),
            manifest_path: format!("/x/{room}/Cargo.toml").into(),
            dependencies: vec![Dependency {
                name: format!("{PREFIX}{sees}"),
                kind: kind.map(str::to_owned),
            }],
            targets: Vec::new(),
        }
    }

    #[test]
    fn forbidden_directions_are_seen() {
        let check = |room, sees, kind| check_room(&package(room, sees, kind), room);
        assert!(check("smmuv3", "iommu", None).is_empty());
        assert!(!check("smmuv3", "vm", None).is_empty());
        assert!(!check("vm", "smmuv3", None).is_empty());
        assert!(!check("pgtable", "iommu", None).is_empty());
        assert!(!check("smmu-model", "smmuv3", Some("build")).is_empty());
        assert!(check("pgtable", "iommu", Some("dev")).is_empty());
        assert!(!check("cellar", "hal", None).is_empty());
    }

    #[test]
    fn the_rooms_have_no_circle() {
        // A room may only see rooms above it in the list.
        for (at, (room, sees)) in ROOMS.iter().enumerate() {
            for seen in *sees {
                let place = ROOMS.iter().position(|(name, _)| name == seen);
                assert!(place.is_some_and(|place| place < at), "{room} sees {seen}");
            }
        }
    }
}
