//! Faults planted in the source: each file of tests/sabotage takes one protecting line away in a
//! scratch copy, and names the test that must then fail.
//!
//! A file is a patch (`patch -p1`) with two lines before it:
//! ```text
//! Test: PACKAGE NAME              a test of a package, its full name
//! Test: qemu SCENARIO CHECK       or a check of a scenario
//! Says: TEXT                      words of the assertion that fails
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use palisade_e2e::console::say;

use crate::test::tally::Tally;
use crate::workspace::{Workspace, cargo};

/// One planted fault.
#[derive(Debug)]
struct Fault {
    name: String,
    patch: PathBuf,
    test: Test,
    says: String,
}

/// What must catch it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Test {
    Host { package: String, name: String },
    Qemu { scenario: String, check: String },
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host { package, name } => write!(f, "{package} {name}"),
            Self::Qemu { scenario, check } => write!(f, "qemu {scenario} {check}"),
        }
    }
}

/// How a test went.
#[derive(Clone, Debug)]
struct Went {
    ran: bool,
    passed: bool,
    output: String,
}

impl Went {
    /// Whether the test failed with these words.
    fn shows(&self, says: &str) -> bool {
        self.ran && !self.passed && self.output.contains(says)
    }
}

/// Why a fault counts as not caught; `None` if its test fails without it. Only rows of the matrix
/// hold the word that they begin with.
fn why(went: Option<&Went>, says: &str) -> String {
    let why = match went {
        None => "does not pass without the fault".to_owned(),
        Some(went) if !went.ran => format!("did not run with it:\n{}", went.output),
        Some(went) if went.passed => "passes with it".to_owned(),
        Some(went) => format!("fails with it, but does not say {says:?}:\n{}", went.output),
    };
    why.replace("sabotage", "planted-fault")
}

/// Plants every fault of tests/sabotage one at a time, where `planted-NAME` holds `only`.
pub fn run(workspace: &Workspace, only: &str) -> Result<Tally> {
    let folder = workspace.root.join("tests/sabotage");
    let mut faults = Vec::new();
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            faults.push(read(&path).with_context(|| path.display().to_string())?);
        }
    }
    faults.retain(|fault| format!("planted-{}", fault.name).contains(only));
    if faults.is_empty() {
        return Ok(Tally::default());
    }
    faults.sort_by(|a, b| a.name.cmp(&b.name));
    let scratch = Scratch::new(workspace)?;
    let mut sound: HashMap<Test, Went> = HashMap::new();
    let mut tally = Tally::default();
    for fault in &faults {
        if palisade_e2e::interrupt::asked() {
            bail!("interrupted");
        }
        if !sound.contains_key(&fault.test) {
            sound.insert(fault.test.clone(), scratch.run(&fault.test)?);
        }
        let before = sound.get(&fault.test).is_some_and(|went| went.ran && went.passed);
        let after = if before { Some(scratch.with(fault)?) } else { None };
        let Fault { name, test, says, .. } = fault;
        let caught = after.as_ref().is_some_and(|went| went.shows(says));
        match after {
            Some(_) if caught => say(&format!("sabotage {name}: caught by {test}")),
            after => {
                say(&format!("sabotage {name}: survived"));
                say(&format!("  {test} {}", why(after.as_ref(), says)));
            }
        }
        tally += Tally::one(caught);
    }
    Ok(tally)
}

fn read(path: &Path) -> Result<Fault> {
    let text = fs::read_to_string(path)?;
    let line = |key: &str| {
        let mut lines = text.lines().take_while(|line| !line.starts_with("--- "));
        let value = lines.find_map(|line| line.strip_prefix(key)).map(str::trim);
        value.filter(|value| !value.is_empty()).with_context(|| format!("no line {key:?}"))
    };
    let words: Vec<&str> = line("Test:")?.split_whitespace().collect();
    let test = match words.as_slice() {
        ["qemu", scenario, check] => {
            Test::Qemu { scenario: (*scenario).to_owned(), check: (*check).to_owned() }
        }
        [package, name] => Test::Host { package: (*package).to_owned(), name: (*name).to_owned() },
        _ => bail!("Test: wants PACKAGE NAME or qemu SCENARIO CHECK"),
    };
    let name = path.file_stem().and_then(|name| name.to_str()).context("a name")?;
    Ok(Fault {
        name: name.to_owned(),
        patch: path.to_path_buf(),
        test,
        says: line("Says:")?.to_owned(),
    })
}

/// A copy of the source with a target folder of its own.
struct Scratch {
    root: PathBuf,
    target: PathBuf,
}

impl Scratch {
    /// Makes the copy whole. What is right already is left alone: cargo goes by files' times, and
    /// must see a fault that an earlier run has planted last leave again.
    fn new(workspace: &Workspace) -> Result<Self> {
        let base = workspace.scratch()?.join("planted");
        let root = base.join("source");
        let files: BTreeSet<PathBuf> = crate::lint::files(workspace)?
            .into_iter()
            .map(PathBuf::from)
            .filter(|name| workspace.root.join(name).is_file())
            .collect();
        for name in &files {
            let to = root.join(name);
            let bytes = fs::read(workspace.root.join(name))?;
            if fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().context("a file without a folder")?)?;
            fs::write(&to, bytes)?;
        }
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if !files.contains(path.strip_prefix(&root)?) {
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(Self { root, target: base.join("target") })
    }

    /// Plants a fault, runs its test, takes the fault out.
    fn with(&self, fault: &Fault) -> Result<Went> {
        self.patch(fault, false)?;
        let went = self.run(&fault.test);
        self.patch(fault, true)?;
        went
    }

    fn patch(&self, fault: &Fault, reverse: bool) -> Result<()> {
        let file = fs::File::open(&fault.patch)?;
        let mut command = Command::new("patch");
        command.args(["-p1", "--silent", "--no-backup-if-mismatch", "--fuzz=0"]);
        if reverse {
            command.arg("-R");
        }
        let output = command.current_dir(&self.root).stdin(file).output();
        let output = output.context("patch does not start; install it")?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stdout).into_owned();
            bail!("{} no longer applies: {words}", fault.patch.display());
        }
        Ok(())
    }

    fn run(&self, test: &Test) -> Result<Went> {
        let mut command = cargo();
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .stderr(Stdio::piped());
        match test {
            Test::Host { package, name } => {
                command.args(["test", "--quiet", "--package", package, "--", "--exact", name]);
                let output = command.output().context("cargo does not start")?;
                let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.push_str(&String::from_utf8_lossy(&output.stderr));
                let mut tally = Tally::default();
                for result in text.lines().filter_map(Tally::parse) {
                    tally += result;
                }
                let ran = tally.passed + tally.failed > 0;
                Ok(Went { ran, passed: output.status.success(), output: text })
            }
            Test::Qemu { scenario, check } => {
                let json = self.target.with_file_name("report.json");
                command.args(["run", "--quiet", "--package", "palisade-xtask", "--"]);
                command.args(["run", scenario, "--json"]).arg(&json);
                command.output().context("cargo does not start")?;
                let report: serde_json::Value = serde_json::from_slice(&fs::read(&json)?)?;
                let checks = report.get("checks").and_then(serde_json::Value::as_array);
                let found = checks.into_iter().flatten().find(|found| {
                    found.get("name").and_then(serde_json::Value::as_str) == Some(check)
                });
                let passed = found.and_then(|found| found.get("passed")?.as_bool());
                let output = found.map(ToString::to_string).unwrap_or_default();
                Ok(Went { ran: passed.is_some(), passed: passed == Some(true), output })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ste-order.patch");
        fs::write(&path, "Test: palisade-smmuv3 a::b\nSays: torn\n--- a/x\n+++ b/x\n").unwrap();
        let fault = read(&path).unwrap();
        assert_eq!(fault.name, "ste-order");
        assert_eq!(fault.test.to_string(), "palisade-smmuv3 a::b");
        assert_eq!(fault.says, "torn");
        fs::write(&path, "Test: qemu isolation attack\n--- a/x\nSays: too late\n").unwrap();
        assert!(read(&path).is_err(), "no words before the patch");
    }
}
