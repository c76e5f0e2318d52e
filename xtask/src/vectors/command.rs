//! The command: which file is compared by whom.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use palisade_e2e::console::say;

use super::compared::Compared;
use super::{lpae, lpae_map, smmuv3, v7s};
use crate::cli::VectorsOptions;
use crate::test::Tally;
use crate::workspace::Workspace;

/// Compares the text of one file.
type Compare = fn(&str) -> Result<Compared>;

/// Every file that is known, by name.
const FILES: &[(&str, Compare)] = &[
    ("arm_smmu_v3_kunit_cases.csv", smmuv3::named_transitions),
    ("lpae_config.csv", lpae::config),
    ("lpae_map.csv", lpae_map::map),
    ("lpae_prot_bits.csv", lpae::prot_bits),
    ("lpae_s1_dirty.csv", lpae::dirty),
    ("lpae_sequences.csv", lpae_map::sequences),
    ("smmuv3_entry_transitions.csv", smmuv3::transitions),
    ("smmuv3_ste_cd_encodings.csv", smmuv3::encodings),
    ("smmuv3_used_bits.csv", smmuv3::used_bits),
    ("v7s_config.csv", v7s::config),
    ("v7s_map.csv", v7s::map),
];

/// Checks files and folders of files.
///
/// # Errors
/// When a path cannot be read.
pub fn vectors(options: &VectorsOptions) -> Result<ExitCode> {
    let mut tally = Tally::default();
    for path in expand(&options.paths)? {
        tally += check(&path);
    }
    Ok(if tally.failed == 0 && tally.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks the files in tests/vectors; each counts as one test.
///
/// # Errors
/// When the folder cannot be read.
pub fn test(workspace: &Workspace) -> Result<Tally> {
    let mut tally = Tally::default();
    for path in expand(&[workspace.root.join("tests/vectors")])? {
        tally += check(&path);
    }
    Ok(tally)
}

/// Files as they are; of a folder its CSVs, sorted.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).with_context(|| format!("{}", path.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "csv") {
                found.push(file);
            }
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// Compares one file and prints its line.
fn check(path: &Path) -> Tally {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let passed = match compare(path, &name) {
        Ok(compared) => {
            say(&format!("{name}: {compared}"));
            compared.passed()
        }
        Err(error) => {
            say(&format!("{name}: {error:#}"));
            false
        }
    };
    Tally::one(passed)
}

fn compare(path: &Path, name: &str) -> Result<Compared> {
    let Some((_, compare)) = FILES.iter().find(|(known, _)| *known == name) else {
        bail!("nothing here knows how to compare it")
    };
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    compare(&text)
}
