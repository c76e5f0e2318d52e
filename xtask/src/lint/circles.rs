//! Files of one crate that import each other in a circle: whoever reads one must read all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use palisade_e2e::console::say;

use crate::lint::imports::{imports, module_of};
use crate::workspace::Workspace;

/// Crates whose files may import each other in a circle: how many files at most, and why. In all
/// others no circle is allowed.
const ACCEPTED: &[(&str, usize, &str)] = &[
    ("palisade-core", 2, "the log writes to the console; the last resort opens both"),
    ("palisade-boot", 5, "the way in, the vectors and the way off park a core in one place"),
    ("palisade-bundle", 3, "a manifest, its VMs and their devices are one grammar"),
    ("palisade-iommu", 7, "an error names the group's state, a group its domain and instance"),
    ("palisade-pgtable", 2, "a space caches its walk; the registry runs what tests a format"),
    ("palisade-vm", 3, "a vCPU's core sees the VM; list registers, LPIs and state are one machine"),
    ("palisade-e2e", 15, "every scenario's drive is a job of one list, and uses its tools"),
    (
        "palisade-fdt",
        2,
        "where the console is depends on the board's aliases, and a map on its controller",
    ),
    ("palisade-mem", 4, "what is detached, its frames, ledger and space are one proof"),
    ("palisade-host", 2, "a world and its extents are one fixture"),
    ("palisade-model-against-qemu", 2, "a difference is compared with the list of known ones"),
    ("palisade-smmu-model", 10, "the model's units share one state, as the manual's do"),
    ("palisade-xtask", 7, "a command's rows are listed by its run and use its words"),
];

/// Most files of a circle in the hypervisor's core, whatever the list says.
const CORE: (&str, usize) = ("palisade-core", 3);

/// Complaints about circles that no reason excuses, and about reasons that excuse none. Prints
/// those that are accepted.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for package in &workspace.packages {
        let Some(folder) = package.manifest_path.parent() else { continue };
        let source = folder.join("src");
        let mut files = BTreeMap::new();
        read(&source, &source, &mut files)?;
        let accepted = ACCEPTED.iter().find(|(name, ..)| package.name == *name);
        let found = circles(&files);
        for circle in &found {
            let listed = format!("{}: {}", package.name, circle.join(", "));
            match accepted.filter(|(_, most, _)| circle.len() <= *most) {
                Some((.., reason)) => say(&format!("  circle, accepted: {listed}: {reason}")),
                None => complaints.push(format!("files import each other in a circle: {listed}")),
            }
        }
        // What the list excuses is not more than what there is.
        let largest = found.iter().map(Vec::len).max().unwrap_or(0);
        if let Some((name, most, _)) = accepted.filter(|(_, most, _)| largest < *most) {
            complaints.push(format!("{name}: the largest circle has {largest} files, not {most}"));
        }
    }
    if ACCEPTED.iter().any(|(name, most, _)| *name == CORE.0 && *most > CORE.1) {
        complaints.push(format!("{}: no circle of more than {} files", CORE.0, CORE.1));
    }
    Ok(complaints)
}

/// Every Rust file below `folder` that is not a test, by its path below `root`.
fn read(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            read(root, &path, files)?;
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            files.insert(name, std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The circles of a crate's files, each sorted.
fn circles(files: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let modules: BTreeMap<Vec<String>, &String> =
        files.keys().map(|name| (module_of(name), name)).collect();
    let mut arrows: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    let mut shown = BTreeMap::new();
    let mut read = Vec::new();
    for (name, text) in files {
        let module = module_of(name);
        let is_module = |path: &[String]| modules.contains_key(path);
        for import in imports(text, &module, &is_module) {
            match is_room(name) {
                true => drop(shown.insert((module.clone(), import.name.clone()), import.path)),
                false => read.push((name, import.path)),
            }
        }
    }
    for (name, path) in read {
        if let Some(file) = resolve(&path, &modules, &shown, 8)
            && file != name
            && !is_room(file)
        {
            arrows.entry(name).or_default().insert(file);
        }
    }
    let names: Vec<&String> = files.keys().collect();
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        names.iter().map(|name| (*name, reachable(name, &arrows))).collect();
    let reaches = |a: &String, b: &String| reach.get(a).is_some_and(|set| set.contains(b));
    let mut found = BTreeSet::new();
    for name in names.iter().filter(|name| reaches(name, name)) {
        let together = names.iter().filter(|other| reaches(name, other) && reaches(other, name));
        found.insert(together.map(|other| (*other).clone()).collect::<Vec<_>>());
    }
    found.into_iter().collect()
}

/// lib.rs, main.rs and mod.rs: modules and re-exports, which are looked through.
fn is_room(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|file| ["lib.rs", "main.rs", "mod.rs"].contains(&file))
}

/// The file that a path leads to: the longest part of it that is a module, and what a room
/// shows of others.
fn resolve<'f>(
    path: &[String],
    modules: &BTreeMap<Vec<String>, &'f String>,
    shown: &BTreeMap<(Vec<String>, String), Vec<String>>,
    depth: usize,
) -> Option<&'f String> {
    let known = (0..=path.len())
        .rev()
        .find(|&length| path.get(..length).is_some_and(|part| modules.contains_key(part)))?;
    let (module, rest) = path.split_at_checked(known)?;
    let next = rest.first().and_then(|name| shown.get(&(module.to_vec(), name.clone())));
    match next {
        Some(next) if depth > 0 => resolve(next, modules, shown, depth - 1),
        _ => modules.get(module).copied(),
    }
}

fn reachable<'f>(
    from: &'f String,
    arrows: &BTreeMap<&'f String, BTreeSet<&'f String>>,
) -> BTreeSet<&'f String> {
    let mut seen = BTreeSet::new();
    let mut left = vec![from];
    while let Some(name) = left.pop() {
        for next in arrows.get(name).into_iter().flatten() {
            if seen.insert(*next) {
                left.push(next);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        circles(&files.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect())
    }

    #[test]
    fn a_circle_is_found_through_rooms_groups_and_inline_paths() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod room;\npub use a::Thing;\n"),
            ("a.rs", "use crate::{b::{self, Other}, room::Inner};\npub struct Thing;\n"),
            ("b.rs", "fn other() { super::room::inner() }\n"),
            ("room/mod.rs", "mod inner;\npub use inner::{Inner, inner};\n"),
            ("room/inner.rs", "use crate::Thing; // use crate::nothing;\n"),
            ("far.rs", "use crate::a::Thing;\n"),
        ];
        assert_eq!(of(&files), [["a.rs", "b.rs", "room/inner.rs"]]);
    }

    #[test]
    fn what_tests_and_texts_say_is_no_import() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "use crate::b::B;\n"),
            (
                "b.rs",
                "const T: &str = \"crate::a::A\";\n#[cfg(test)]\nmod tests { use crate::a::A; }\n",
            ),
        ];
        assert_eq!(of(&files), Vec::<Vec<String>>::new());
    }
}
