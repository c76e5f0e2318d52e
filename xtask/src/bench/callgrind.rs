//! Runs a program under callgrind and reads how many instructions a region took.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// Instructions in the region, less those that zero memory.
    pub instructions: f64,
    /// How many units of work the program says it did.
    pub units: f64,
}

/// Counts what `program` does inside `region`. `None` if the program says that it
/// cannot do that.
pub fn count(program: &Path, arguments: &[&str], region: &str) -> Result<Option<Counted>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", &format!("--toggle-collect={region}")])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("valgrind does not start")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        if errors.contains("has no such operation") {
            return Ok(None);
        }
        bail!("{} {}: {}", program.display(), arguments.join(" "), errors.trim());
    }
    let units: f64 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .context("the program does not say how much it did")?;
    let (total, zeroing) = parse(&std::fs::read_to_string(&out).context("no profile")?)?;
    Ok(Some(Counted { instructions: (total - zeroing) as f64, units }))
}

/// All instructions, and those of the C library's memset.
fn parse(profile: &str) -> Result<(u64, u64)> {
    let mut names = std::collections::HashMap::new();
    let (mut total, mut zeroing) = (None, 0);
    let (mut in_memset, mut skip) = (false, false);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            // "(7) name" the first time, "(7)" from then on.
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(id.to_owned(), name.contains("memset"));
            }
            in_memset = names.get(id).copied().unwrap_or(false);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            if let Some((id, name)) = name.split_once(' ') {
                names.insert(id.to_owned(), name.contains("memset"));
            }
        } else if line.starts_with("calls=") {
            // The next line is what the callee cost, counted there too.
            skip = true;
        } else if let Some(sum) = line.strip_prefix("totals:") {
            total = sum.trim().parse().ok();
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            if in_memset && !skip {
                let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
                zeroing += cost.unwrap_or(0);
            }
            skip = false;
        }
    }
    Ok((total.context("the profile has no total")?, zeroing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_costs_of_memset_are_told_apart() {
        let profile = "events: Ir\nfn=(1) work\n10 5\ncfn=(2) __memset_avx2\ncalls=1 20\n11 100\n\
                       +2 6\nfn=(2)\n20 100\nfn=(1)\n* 3\ntotals: 114\n";
        assert_eq!(parse(profile).unwrap(), (114, 100));
    }
}
