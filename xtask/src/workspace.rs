//! The workspace as cargo sees it, and builds in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use xshell::Shell;

/// The target of the hypervisor and the payloads.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";

/// The target of palisade.efi.
pub const UEFI: &str = "aarch64-unknown-uefi";

/// The target of programs in Linux guests.
pub const MUSL: &str = "aarch64-unknown-linux-musl";

/// What `cargo metadata` says, as far as it is used.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// All packages.
    pub packages: Vec<Package>,
    /// The workspace's folder.
    pub workspace_root: PathBuf,
    /// Where cargo builds.
    pub target_directory: PathBuf,
}

/// A package.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its Cargo.toml.
    pub manifest_path: PathBuf,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// What it builds.
    pub targets: Vec<Target>,
}

/// A dependency.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// "dev", "build", or none for a normal one.
    pub kind: Option<String>,
}

/// A build target.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// "bin", "lib", …
    pub kind: Vec<String>,
    /// Its root file.
    pub src_path: PathBuf,
}

/// The workspace.
#[derive(Debug)]
pub struct Workspace {
    /// Its folder.
    pub root: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
    /// Its packages.
    pub packages: Vec<Package>,
}

/// The program of the cargo that started us.
pub fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The cargo that started us.
pub fn cargo() -> Command {
    let mut command = Command::new(program());
    command.stdin(Stdio::null());
    command
}

impl Workspace {
    /// For plain commands, run at the root.
    pub fn shell(&self) -> Result<Shell> {
        let shell = Shell::new()?;
        shell.change_dir(&self.root);
        Ok(shell)
    }

    /// Asks cargo.
    pub fn open() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().context("xtask has no parent folder")?;
        let output = cargo()
            .args(["metadata", "--format-version=1", "--no-deps"])
            .current_dir(root)
            .stderr(Stdio::inherit())
            .output()
            .context("cargo does not start")?;
        if !output.status.success() {
            bail!("cargo metadata failed");
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            packages: metadata.packages,
        })
    }

    /// A package.
    pub fn package(&self, name: &str) -> Result<&Package> {
        let mut all = self.packages.iter();
        all.find(|package| package.name == name)
            .with_context(|| format!("the workspace has no package {name}"))
    }

    /// Builds a package for the target and gives the file of one of its programs.
    pub fn build(&self, package: &str, program: &str) -> Result<PathBuf> {
        self.build_with(package, program, &[])
    }

    /// The same for a program that asks for features of its package.
    pub fn build_with(&self, package: &str, program: &str, features: &[&str]) -> Result<PathBuf> {
        self.build_for(TARGET, package, program, features)
    }

    /// The same for another target.
    pub fn build_for(
        &self,
        target: &str,
        package: &str,
        program: &str,
        features: &[&str],
    ) -> Result<PathBuf> {
        let _step = crate::progress::step(&format!("building {program}"));
        let arguments = ["build", "--quiet", "--release", "--package", package, "--bin", program];
        let status = cargo()
            .args(arguments)
            .args(["--target", target, "--features", &features.join(",")])
            .current_dir(&self.root)
            .status()
            .context("cargo does not start")?;
        if palisade_e2e::interrupt::asked() {
            bail!("interrupted");
        }
        if !status.success() {
            bail!("{program} does not build");
        }
        Ok(self.target.join(target).join("release").join(program))
    }

    /// A folder for what xtask makes.
    pub fn scratch(&self) -> Result<PathBuf> {
        let folder = self.target.join("xtask");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}
