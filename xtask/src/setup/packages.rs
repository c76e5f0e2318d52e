//! Package managers: which one is here and what it calls QEMU.

use std::path::PathBuf;

/// A way to install QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manager {
    /// apt, with the distribution's release.
    Apt(Release),
    /// Another one: program and arguments; whether it wants root.
    Other {
        /// The program.
        program: &'static str,
        /// Its arguments.
        arguments: &'static [&'static str],
        /// Whether it must run as root.
        root: bool,
    },
}

/// A distribution's release, from /etc/os-release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// "debian", "ubuntu", …
    pub id: String,
    /// "bookworm", …
    pub codename: String,
}

impl Release {
    /// Reads /etc/os-release.
    pub fn here() -> Self {
        Self::parse(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        Self { id: value("ID"), codename: value("VERSION_CODENAME") }
    }

    /// Whether QEMU must come from backports.
    pub fn wants_backports(&self) -> bool {
        self.id == "debian" && self.codename == "bookworm"
    }
}

const OTHERS: &[(&str, &[&str], bool)] = &[
    ("dnf", &["install", "-y", "qemu-system-aarch64-core"], true),
    ("pacman", &["-S", "--noconfirm", "qemu-system-aarch64"], true),
    ("zypper", &["--non-interactive", "install", "qemu-arm"], true),
    ("apk", &["add", "qemu-system-aarch64"], true),
    ("brew", &["install", "qemu"], false),
];

/// Whether a program is in PATH or where root finds it.
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path);
    let roots = ["/usr/bin", "/usr/sbin", "/sbin"].into_iter().map(PathBuf::from);
    own.chain(roots).any(|folder| folder.join(program).is_file())
}

/// The manager of this system.
pub fn manager() -> Option<Manager> {
    if exists("apt-get") {
        return Some(Manager::Apt(Release::here()));
    }
    let mut others = OTHERS.iter();
    let (program, arguments, root) = others.find(|(program, ..)| exists(program))?;
    Some(Manager::Other { program, arguments, root: *root })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_apart() {
        let bookworm = Release::parse("NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n");
        assert!(bookworm.wants_backports());
        let trixie = Release::parse("ID=debian\nVERSION_CODENAME=trixie\n");
        assert!(!trixie.wants_backports());
        assert!(!Release::parse("").wants_backports());
    }
}
