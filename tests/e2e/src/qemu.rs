//! The QEMU binary: where it is and whether it is new enough.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The binary's name in PATH.
pub const NAME: &str = "qemu-system-aarch64";
/// The oldest version whose SMMUv3 has a second stage.
pub const OLDEST: Version = Version { major: 10, minor: 0 };

/// A QEMU version, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A QEMU that runs, with its version.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// Path of the binary.
    pub path: PathBuf,
    /// What it says it is.
    pub version: Version,
}

/// Finds QEMU in PATH; `None` when there is none.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(NAME)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Asks a QEMU for its version.
///
/// # Errors
/// It does not start, or what it prints is no QEMU version.
pub fn probe(path: &Path) -> Result<Qemu> {
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} does not start", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match parse_version(&text) {
        Some(version) => Ok(Qemu { path: path.to_path_buf(), version }),
        None => bail!(
            "{} --version says {:?}, which is not QEMU's way to say its version",
            path.display(),
            text.lines().next().unwrap_or("nothing")
        ),
    }
}

fn parse_version(text: &str) -> Option<Version> {
    let numbers = text.split("QEMU emulator version ").nth(1)?;
    let mut parts = numbers.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some(Version { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        assert_eq!(parse_version(debian), Some(Version { major: 10, minor: 0 }));
        let old = parse_version("QEMU emulator version 7.2.17 (Debian)").unwrap();
        assert!(old < OLDEST);
        assert!(parse_version("QEMU emulator version 11.1.3").unwrap() > OLDEST);
        assert_eq!(parse_version("GNU bash, version 5"), None);
        assert_eq!(parse_version(""), None);
    }
}
