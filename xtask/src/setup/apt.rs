//! QEMU through apt. Debian bookworm's own is too old; backports has one. Sources and package
//! lists are private to this one call: the system's apt knows nothing of them afterwards.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::setup::packages::Release;
use crate::setup::rights::Rights;

const PACKAGE: &str = "qemu-system-arm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What a person would type.
pub fn advice(release: &Release) -> String {
    if release.wants_backports() {
        let list = "/etc/apt/sources.list.d/backports.list";
        let mirror = archive(&system_sources()).unwrap_or_else(|| "YOUR-DEBIAN-MIRROR".to_owned());
        format!(
            "echo 'deb {mirror} bookworm-backports main' | sudo tee {list} && sudo apt-get update \
             && sudo apt-get install -y -t bookworm-backports {PACKAGE}"
        )
    } else {
        format!("sudo apt-get update && sudo apt-get install -y {PACKAGE}")
    }
}

/// Installs QEMU.
pub fn install(release: &Release, rights: Rights) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("palisade-apt-").tempdir()?;
    // apt drops its rights while downloading and must still reach its files.
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut options = vec!["-q".to_owned(), "-o".to_owned(), "APT::Color=0".to_owned()];
    let mut target = Vec::new();
    if release.wants_backports() {
        options.extend(private(folder.path(), release)?);
        target.extend(["-t", "bookworm-backports"]);
    }
    let result = run(rights, &options, &["update"], "fetching package lists").and_then(|()| {
        let mut words = vec!["install", "-y", "--no-install-recommends"];
        words.extend(target);
        words.push(PACKAGE);
        run(rights, &options, &words, "installing QEMU")
    });
    if rights != Rights::Root {
        // What apt wrote there belongs to root; a leftover in /tmp is no reason to fail.
        let _ = rights.command("rm").arg("-rf").arg(folder.path()).status();
    }
    result
}

fn run(rights: Rights, options: &[String], words: &[&str], what: &str) -> Result<()> {
    let _step = crate::progress::step(what);
    let output = rights
        .command("apt-get")
        .args(options)
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("apt-get does not start")?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = errors.lines().rev().take(6).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    bail!("apt-get {} ended with {}:\n{}", words.join(" "), output.status, last.join("\n"))
}

/// The options that keep this call's state apart, with sources written for it.
fn private(folder: &Path, release: &Release) -> Result<Vec<String>> {
    let lists = folder.join("lists");
    let archives = folder.join("archives");
    let parts = folder.join("parts");
    for sub in [&lists.join("partial"), &archives.join("partial"), &parts] {
        fs::create_dir_all(sub)?;
    }
    let sources = folder.join("sources.list");
    fs::write(&sources, self::sources(&system_sources(), &release.codename)?)?;
    let pairs = [
        ("Dir::Etc::sourcelist", sources.as_path()),
        ("Dir::Etc::sourceparts", &parts),
        ("Dir::State::Lists", &lists),
        ("Dir::Cache::Archives", &archives),
        ("Dir::Cache::pkgcache", Path::new("")),
        ("Dir::Cache::srcpkgcache", Path::new("")),
    ];
    Ok(pairs
        .into_iter()
        .flat_map(|(key, path)| ["-o".to_owned(), format!("{key}={}", path.display())])
        .collect())
}

/// Sources for `codename` alone, from the system's own mirror.
pub fn mirror(codename: &str) -> Result<String> {
    let text = sources(&system_sources(), codename)?;
    let main: Vec<&str> =
        text.lines().filter(|line| line.ends_with(&format!(" {codename} main"))).collect();
    Ok(main.first().map_or(text.clone(), |line| format!("{line}\n")))
}

/// All apt source files of the system, one after the other.
fn system_sources() -> String {
    let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        text.push_str("\n\n");
        text.push_str(&fs::read_to_string(entry.path()).unwrap_or_default());
    }
    text
}

/// Sources of the release as the system has them (a local mirror stays in use), and backports.
///
/// # Errors
/// The system's apt knows no Debian archive.
fn sources(system: &str, codename: &str) -> Result<String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (uri, suite) in pairs(system) {
        let ours = suite == codename
            || suite
                .strip_prefix(codename)
                .is_some_and(|rest| matches!(rest, "-updates" | "-security" | "-backports"));
        let pair = (uri, suite);
        if ours && pair.0.contains("debian") && !found.contains(&pair) {
            found.push(pair);
        }
    }
    let main = found.iter().find(|(_, suite)| suite == codename).map(|(uri, _)| uri.clone());
    let mirror = main
        .or_else(|| archive(system))
        .context("apt has no source of Debian's packages; add one to /etc/apt/sources.list")?;
    for suite in [codename.to_owned(), format!("{codename}-backports")] {
        if !found.iter().any(|(_, known)| *known == suite) {
            found.push((mirror.clone(), suite));
        }
    }
    let signed = if Path::new(KEYRING).is_file() {
        format!("[signed-by={KEYRING}] ")
    } else {
        String::new()
    };
    Ok(found.iter().map(|(uri, suite)| format!("deb {signed}{uri} {suite} main\n")).collect())
}

/// The first archive of Debian's that the system's apt knows, whatever the release.
fn archive(system: &str) -> Option<String> {
    let is_archive = |uri: &String| uri.contains("debian") && !uri.contains("security");
    pairs(system).into_iter().map(|(uri, _)| uri).find(is_archive)
}

/// Every URI and suite of the system's sources.
fn pairs(system: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut take = |uri: &str, suite: &str| {
        if uri.contains("://") {
            found.push((uri.to_owned(), suite.to_owned()));
        }
    };
    // One-line style: deb [options] URI SUITE COMPONENTS
    for line in system.lines().filter_map(|line| line.trim().strip_prefix("deb ")) {
        let line = match line.trim_start().strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or("", |(_, rest)| rest),
            None => line,
        };
        let mut words = line.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            take(uri, suite);
        }
    }
    // deb822 style: paragraphs with URIs: and Suites:
    for paragraph in system.split("\n\n") {
        let field = |name: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| line.strip_prefix(name)).unwrap_or_default().split_whitespace()
        };
        for uri in field("URIs:") {
            for suite in field("Suites:") {
                take(uri, suite);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_mirror_is_kept_and_strangers_are_left_out() {
        let system = "deb http://mirror.example/debian bookworm main\n\
                      deb [arch=amd64] https://packages.example/other stable main\n\n\
                      Types: deb\nURIs: http://security.example/debian-security\n\
                      Suites: bookworm-security\nComponents: main\n\n\
                      Types: deb\nURIs: https://deb.example/node\nSuites: nodistro\n";
        let text = sources(system, "bookworm").unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(text.contains("http://mirror.example/debian bookworm main"));
        assert!(text.contains("http://mirror.example/debian bookworm-backports main"));
        assert!(text.contains("http://security.example/debian-security bookworm-security main"));
    }

    #[test]
    fn another_release_is_had_from_the_same_archive() {
        let system = "deb http://mirror.example/debian trixie main\n";
        let text = sources(system, "bookworm").unwrap();
        assert!(text.contains("http://mirror.example/debian bookworm main"));
        assert!(text.contains("http://mirror.example/debian bookworm-backports main"));
        assert!(sources("", "bookworm").is_err());
    }
}
