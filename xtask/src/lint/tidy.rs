//! Rules that no other tool checks: sizes, leftovers, names, what the text may mention.

use std::path::Path;

use anyhow::{Context, Result};
use xshell::cmd;

use crate::workspace::{Workspace, cargo};

const LONGEST_FILE: usize = 600;
const LONGEST_ROOT: usize = 120;

/// Complaints about every file that git knows.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for name in files(workspace)? {
        let path = workspace.root.join(&name);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        complaints.extend(judge(&name, &text));
    }
    Ok(complaints)
}

/// The files that git knows, or will after the next `git add`; without git, what cargo packs.
pub fn files(workspace: &Workspace) -> Result<Vec<String>> {
    let shell = workspace.shell()?;
    let git = cmd!(shell, "git ls-files --cached --others --exclude-standard");
    if let Ok(names) = git.ignore_stderr().read() {
        return Ok(names.lines().map(str::to_owned).collect());
    }
    let mut names = Vec::new();
    for package in &workspace.packages {
        let output = cargo()
            .args(["package", "--list", "--allow-dirty", "--package", &package.name])
            .current_dir(&workspace.root)
            .output()
            .context("cargo does not start")?;
        let folder = package.manifest_path.parent().unwrap_or(Path::new("."));
        let folder = folder.strip_prefix(&workspace.root).unwrap_or(folder);
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        names.extend(listed.lines().map(|line| folder.join(line).display().to_string()));
    }
    Ok(names)
}

/// Words that must not stay in Rust source, built so that this file does not hold them.
fn leftovers() -> [String; 5] {
    let word = |name: &str| format!("{name}!(");
    [
        word("todo"),
        word("dbg"),
        word("unimplemented"),
        "allow(dead_".to_owned() + "code)",
        "FIX".to_owned() + "ME",
    ]
}

/// Paths of somebody's machine, built in the same way.
fn outside() -> [String; 4] {
    ["../sha-red", "/wo-rk/", "/ho-me/", "/ro-ot/"].map(|path| path.replace('-', ""))
}

fn judge(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut say = |line: usize, what: &str| complaints.push(format!("{name}:{line}: {what}"));
    let rust = name.ends_with(".rs");
    let lines = text.lines().count();
    if rust && lines > LONGEST_FILE {
        say(lines, &format!("{lines} lines; {LONGEST_FILE} is the most"));
    }
    // What several test programs share is a mod.rs by cargo's rules.
    let shared = name.contains("/tests/") && name.ends_with("/mod.rs");
    let root = (name.ends_with("/lib.rs") || name.ends_with("/mod.rs")) && !shared;
    if root && lines > LONGEST_ROOT {
        say(lines, "lib.rs and mod.rs hold documentation, modules and re-exports only");
    }
    if root {
        for (number, line) in (1..).zip(text.lines()) {
            let starts = ["fn ", "pub fn ", "impl ", "impl<", "pub(crate) fn ", "pub const fn "];
            if starts.iter().any(|start| line.starts_with(start)) {
                say(number, "lib.rs and mod.rs hold no logic");
            }
        }
    }
    let scripts = [".rs", ".toml", ".ld", ".md", ".s", ".S", "run"];
    let ours = scripts.iter().any(|end| name.ends_with(end));
    for (number, line) in (1..).zip(text.lines()) {
        // No single test program uses all of what they share.
        let found = leftovers().iter().any(|word| line.contains(word.as_str()));
        if rust && found && !(shared && line.starts_with("#![allow(")) {
            say(number, "a leftover");
        }
        if ours && outside().iter().any(|path| line.contains(path.as_str())) {
            say(number, "names a path outside the repository");
        }
        if rust && line.ends_with([' ', '\t']) {
            say(number, "white space at the end of the line");
        }
        if rust && line.contains('\t') {
            say(number, "a tab");
        }
    }
    if ours && !text.is_empty() && !text.ends_with('\n') {
        say(lines, "no newline at the end of the file");
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_bites() {
        assert!(judge("a/src/x.rs", "//! Fine.\n").is_empty());
        assert!(!judge("a/src/x.rs", &"\n".repeat(601)).is_empty());
        assert!(judge("a/data.csv", &"\n".repeat(601)).is_empty());
        for word in leftovers() {
            assert!(!judge("a/src/x.rs", &format!("    {word});\n")).is_empty(), "{word}");
        }
        assert!(!judge("a/src/lib.rs", "pub fn logic() {}\n").is_empty());
        assert!(judge("a/src/x.rs", "pub fn logic() {}\n").is_empty());
        assert!(!judge("README.md", &["see /", "work/x\n"].concat()).is_empty());
        assert!(!judge("README.md", &["see ../", "shared\n"].concat()).is_empty());
        assert!(!judge("a/src/x.rs", "fn f() {} \n").is_empty());
        assert!(!judge("a/src/x.rs", "fn f() {}").is_empty());
    }
}
