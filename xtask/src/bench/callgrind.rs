//! Runs a program under callgrind and reads how many instructions a region took.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Functions with this prefix play what is on the other side of a register: not counted.
const OTHER_SIDE: &str = "palisade_other_side";

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    /// Instructions in the region, less those that zero memory or play hardware.
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
    let (total, not_ours) = parse(&std::fs::read_to_string(&out).context("no profile")?)?;
    Ok(Some(Counted { instructions: (total - not_ours) as f64, units }))
}

/// What a function counts as.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ours,
    /// The C library's memset: its own instructions are left out.
    Zeroing,
    /// Left out with everything it calls.
    OtherSide,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            name if name.contains("memset") => Self::Zeroing,
            name if name.starts_with(OTHER_SIDE) => Self::OtherSide,
            _ => Self::Ours,
        }
    }
}

/// All instructions, and those that are not ours.
fn parse(profile: &str) -> Result<(u64, u64)> {
    let mut names = std::collections::HashMap::new();
    let (mut total, mut not_ours) = (None, 0);
    let (mut own, mut callee, mut call) = (Kind::Ours, Kind::Ours, false);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            // "(7) name" the first time, "(7)" from then on.
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(id.to_owned(), Kind::of(name));
            }
            own = names.get(id).copied().unwrap_or(Kind::Ours);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(id.to_owned(), Kind::of(name));
            }
            callee = names.get(id).copied().unwrap_or(Kind::Ours);
        } else if line.starts_with("calls=") {
            // The next line is what the callee cost with all that it called, counted there too.
            call = true;
        } else if let Some(sum) = line.strip_prefix("totals:") {
            total = sum.trim().parse().ok();
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let zeroes = !call && own == Kind::Zeroing;
            let leaves = call && callee == Kind::OtherSide && own != Kind::OtherSide;
            if zeroes || leaves {
                let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
                not_ours += cost.unwrap_or(0);
            }
            call = false;
        }
    }
    Ok((total.context("the profile has no total")?, not_ours))
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

    #[test]
    fn the_other_side_of_a_register_is_left_out_with_all_it_calls() {
        let profile = "events: Ir\nfn=(1) work\n10 5\ncfn=(2) palisade_other_side_write\n\
                       calls=1 20\n11 90\nfn=(2)\n20 60\ncfn=(3) insert\ncalls=1 30\n21 30\n\
                       fn=(3)\n30 30\nfn=(1)\n12 7\ncfn=(2)\ncalls=2 20\n13 8\ntotals: 110\n";
        assert_eq!(parse(profile).unwrap(), (110, 98));
    }
}
