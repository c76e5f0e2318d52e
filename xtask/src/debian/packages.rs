//! Fetching packages of another architecture, without telling the system's apt.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::progress;
use crate::setup::apt::mirror;

/// The release whose kernel the tests know.
const RELEASE: &str = "bookworm";
/// Depends on the newest kernel of the release.
const KERNEL: &str = "linux-image-arm64";
const BUSYBOX: &str = "busybox-static";
/// What is taken out of the packages; the rest of the modules stays packed.
const WANTED: &[&str] = &[
    "./boot/vmlinuz-*",
    "./usr/lib/modules/*/vmlinuz",
    "*/broadcom/bcm2711-rpi-4-b.dtb",
    "*/kernel/arch/arm64/crypto/*",
    "*/kernel/block/*",
    "*/kernel/crypto/*",
    "*/kernel/lib/*",
    "*/kernel/net/core/*",
    "*/kernel/drivers/block/*",
    "*/kernel/drivers/nvme/*",
    "*/kernel/drivers/vfio/*",
    "*/kernel/virt/lib/*",
    "*/kernel/drivers/virtio/*",
    "*/kernel/drivers/ptp/*",
    "*/kernel/drivers/net/net_failover.ko",
    "*/kernel/drivers/net/virtio_net.ko",
    "*/kernel/drivers/net/ethernet/intel/e1000/*",
    "*/kernel/drivers/net/ethernet/intel/e1000e/*",
];

/// Fetches the device trees of a release's newest kernel and unpacks them into `folder`.
pub fn fetch_trees(release: &str, folder: &Path) -> Result<()> {
    let scratch = scratch()?;
    let apt = lists(scratch.path(), release)?;
    let kernel = apt.newest_kernel()?;
    // Newer kernels keep their trees in a package that they depend on.
    let depends = apt.run("apt-cache", &["depends", &kernel])?;
    let bases = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let bases: Vec<&str> = bases.filter(|name| name.starts_with("linux-base-")).collect();
    let package = bases.first().copied().unwrap_or(&kernel);
    {
        let _step = progress::step(&format!("fetching {package} of {release}"));
        apt.run("apt-get", &["-q", "download", package])?;
    }
    let _step = progress::step(&format!("unpacking the device trees of {release}"));
    unpack_all(&apt, scratch.path(), folder, |_| &["*.dtb"])
}

/// Fetches and unpacks into `folder`.
pub fn fetch(folder: &Path) -> Result<()> {
    let scratch = scratch()?;
    let apt = lists(scratch.path(), RELEASE)?;
    let kernel = apt.newest_kernel()?;
    {
        let _step = progress::step(&format!("fetching {kernel} and {BUSYBOX} (60 MB)"));
        apt.run("apt-get", &["-q", "download", &kernel, BUSYBOX])?;
    }
    let _step = progress::step("unpacking the kernel, its modules and busybox");
    unpack_all(&apt, scratch.path(), folder, |package| {
        if package.starts_with("busybox") { &["./bin/busybox"] } else { WANTED }
    })
}

/// Fetches a release's newest kernel and its modules, and unpacks them into `folder`. Newer
/// kernels come in several packages, of which the first depends on the others.
pub fn fetch_kernel(release: &str, folder: &Path) -> Result<()> {
    let scratch = scratch()?;
    let apt = lists(scratch.path(), release)?;
    let kernel = apt.newest_kernel()?;
    let depends = apt.run("apt-cache", &["depends", &kernel])?;
    let parts = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let parts = parts
        .filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"));
    let all: Vec<&str> = [kernel.as_str()].into_iter().chain(parts).collect();
    {
        let _step = progress::step(&format!("fetching {kernel} of {release} (100 MB)"));
        apt.run("apt-get", &[&["-q", "download"], all.as_slice()].concat())?;
    }
    let _step = progress::step(&format!("unpacking the kernel of {release} and its modules"));
    unpack_all(&apt, scratch.path(), folder, |_| WANTED)
}

/// Fetches one package and unpacks one file of it into `folder`.
pub fn fetch_one(folder: &Path, package: &str, file: &str) -> Result<()> {
    let scratch = scratch()?;
    let apt = lists(scratch.path(), RELEASE)?;
    {
        let _step = progress::step(&format!("fetching {package}"));
        apt.run("apt-get", &["-q", "download", package])?;
    }
    let files = [file];
    unpack_all(&apt, scratch.path(), folder, |_| &files)
}

fn scratch() -> Result<tempfile::TempDir> {
    for program in ["apt-get", "apt-cache", "dpkg-deb", "tar"] {
        if !crate::setup::packages::exists(program) {
            bail!("{program} is not here: only a Debian machine can fetch Debian's packages");
        }
    }
    let scratch = tempfile::Builder::new().prefix("palisade-debian-").tempdir()?;
    // apt drops its rights while downloading and must still reach its files.
    fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(scratch)
}

/// apt with fresh lists of a release.
fn lists(scratch: &Path, release: &str) -> Result<Apt> {
    let apt = Apt::new(scratch, release)?;
    let _step = progress::step("fetching the package lists of Debian arm64");
    apt.run("apt-get", &["-q", "update"])?;
    Ok(apt)
}

/// Unpacks what was downloaded beside and moves it when whole: a run that is interrupted leaves
/// nothing half done.
fn unpack_all<'w>(
    apt: &Apt,
    scratch: &Path,
    folder: &Path,
    wanted: impl Fn(&str) -> &'w [&'w str],
) -> Result<()> {
    let fresh = scratch.join("fresh");
    fs::create_dir_all(&fresh)?;
    for entry in fs::read_dir(&apt.downloads)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            unpack(&path, &fresh, wanted(&entry.file_name().to_string_lossy()))?;
        }
    }
    let (shell, all) = (Shell::new()?, fresh.join("."));
    cmd!(shell, "cp -a {all} {folder}").quiet().run()?;
    Ok(())
}

fn unpack(package: &Path, folder: &Path, wanted: &[&str]) -> Result<()> {
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb does not start")?;
    let stream = reader.stdout.take().context("dpkg-deb has no output")?;
    // A pattern without a match is no error here; what is missing shows later.
    let _ = Command::new("tar")
        .args(["-x", "--wildcards", "--no-same-owner", "-C"])
        .arg(folder)
        .args(wanted)
        .stdin(stream)
        .stderr(Stdio::null())
        .status()
        .context("tar does not start")?;
    reader.wait()?;
    Ok(())
}

/// apt with its own sources, lists, cache and status.
struct Apt {
    options: Vec<String>,
    downloads: std::path::PathBuf,
}

impl Apt {
    fn new(folder: &Path, release: &str) -> Result<Self> {
        let downloads = folder.join("downloads");
        for sub in ["lists/partial", "archives/partial", "parts", "downloads"] {
            fs::create_dir_all(folder.join(sub))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(folder.join("sources.list"), mirror(release)?)?;
        fs::set_permissions(&downloads, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let at = |sub: &str| folder.join(sub).display().to_string();
        let pairs = [
            ("APT::Architecture", "arm64".to_owned()),
            ("APT::Architectures", "arm64".to_owned()),
            ("APT::Sandbox::User", String::new()),
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", at("parts")),
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache::Archives", at("archives")),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
        ];
        let options = pairs
            .into_iter()
            .flat_map(|(key, value)| ["-o".to_owned(), format!("{key}={value}")])
            .collect();
        Ok(Self { options, downloads })
    }

    /// The kernel that the release's own package depends on.
    fn newest_kernel(&self) -> Result<String> {
        let depends = self.run("apt-cache", &["depends", KERNEL])?;
        depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
            .with_context(|| format!("{KERNEL} depends on no kernel"))
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        let output = Command::new(program)
            .args(&self.options)
            .args(words)
            .current_dir(&self.downloads)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{program} does not start"))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().rev().take(3).collect::<Vec<_>>().join("; ");
            bail!("{program} {}: {last}", words.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
