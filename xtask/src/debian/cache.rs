//! Where the files are kept, so that they are fetched once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::packages;

/// The folder of what guests are made of.
const GUESTS: &str = "debian-bookworm-arm64";
/// Releases whose kernels can be had besides.
pub const OTHERS: [&str; 2] = ["trixie", "sid"];

/// What was taken out of the packages.
#[derive(Clone, Debug)]
pub struct Files {
    /// The kernel, a raw arm64 Image.
    pub kernel: PathBuf,
    /// lib/modules/RELEASE of that kernel, as far as the initramfs needs it.
    pub modules: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
    /// bcm2711-rpi-4-b.dtb.
    pub rpi4_tree: PathBuf,
}

/// The files, fetched now if they are not in the cache.
///
/// # Errors
/// Where apt is missing or fails, with what to give by hand instead.
pub fn files() -> Result<Files> {
    let folder = folder(GUESTS)?;
    if let Some(files) = find(&folder) {
        return Ok(files);
    }
    packages::fetch(&folder).context(
        "no Linux for the guest; give your own by --kernel FILE and --initrd FILE \
         (and --dtb FILE for the Raspberry Pi 4)",
    )?;
    find(&folder).with_context(|| {
        format!("the packages did not hold what was expected; look into {}", folder.display())
    })
}

/// The kernel and the modules of another release, with the usual one's busybox; fetched now if they
/// are not in the cache.
///
/// # Errors
/// Where apt is missing or fails.
pub fn files_of(release: &str) -> Result<Files> {
    let usual = files()?;
    let folder = folder(&format!("debian-{release}-arm64"))?;
    let found = || {
        let modules = one(&folder.join("usr/lib/modules"), "")?;
        let name = modules.file_name()?.to_str()?.to_owned();
        let places = [modules.join("vmlinuz"), folder.join(format!("boot/vmlinuz-{name}"))];
        let kernel = places.into_iter().find(|place| place.is_file())?;
        has_modules(&modules).then(|| Files { kernel, modules: modules.clone(), ..usual.clone() })
    };
    if let Some(files) = found() {
        return Ok(files);
    }
    packages::fetch_kernel(release, &folder).context("no such kernel for the guest")?;
    found().with_context(|| {
        format!("the packages did not hold what was expected; look into {}", folder.display())
    })
}

/// Firmware for guests: name, package, where the package has it.
const FIRMWARE: [(&str, &str, &str); 2] = [
    ("u-boot", "u-boot-qemu", "usr/lib/u-boot/qemu_arm64/u-boot.bin"),
    ("edk2", "qemu-efi-aarch64", "usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
];

/// The firmware of that name, fetched now if it is not in the cache; none if there is none.
///
/// # Errors
/// Where apt is missing or fails, with what to give by hand instead.
pub fn firmware(name: &str) -> Result<Option<PathBuf>> {
    let Some((_, package, path)) = FIRMWARE.iter().find(|(known, ..)| *known == name) else {
        return Ok(None);
    };
    let folder = folder(GUESTS)?;
    let file = folder.join(path);
    if !file.is_file() {
        packages::fetch_one(&folder, package, &format!("./{path}"))
            .with_context(|| format!("no {package}; give your own by --guest-firmware FILE"))?;
    }
    if !file.is_file() {
        anyhow::bail!("{package} did not hold {path}; look into {}", folder.display());
    }
    Ok(Some(file))
}

/// The folder with the device trees of the releases' newest kernels, fetched now if they are not
/// in the cache.
///
/// # Errors
/// Where apt is missing or fails.
pub fn trees(releases: &[&str]) -> Result<PathBuf> {
    let folder = folder("debian-trees-arm64")?;
    for release in releases {
        let (whole, part) = (folder.join(release), folder.join(format!(".{release}")));
        if whole.is_dir() {
            continue;
        }
        // Renamed when whole: a run that is interrupted leaves nothing half done.
        let _ = fs::remove_dir_all(&part);
        fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        packages::fetch_trees(release, &part)
            .context("no device trees; name a folder of your own: cargo xtask boards DIR")?;
        fs::rename(&part, &whole)?;
    }
    Ok(folder)
}

/// A folder in $PALISADE_CACHE, or in palisade/ in the user's cache folder.
fn folder(name: &str) -> Result<PathBuf> {
    let base = std::env::var_os("PALISADE_CACHE").map(PathBuf::from).or_else(|| {
        let xdg = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        xdg.or(home).map(|cache| cache.join("palisade"))
    });
    let base = base.unwrap_or_else(|| std::env::temp_dir().join("palisade-cache"));
    let folder = base.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Whether a folder holds the modules that are wanted today: an older cache may lack some.
fn has_modules(folder: &Path) -> bool {
    folder.join("kernel/drivers/vfio").is_dir()
}

/// The last one in a folder whose name starts so.
fn one(folder: &Path, start: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    all.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(start)));
    all.sort();
    all.pop()
}

fn find(folder: &Path) -> Option<Files> {
    let kernel = one(&folder.join("boot"), "vmlinuz-")?;
    let release = kernel.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
    let files = Files {
        kernel,
        modules: folder.join("lib/modules").join(&release),
        busybox: folder.join("bin/busybox"),
        rpi4_tree: folder
            .join(format!("usr/lib/linux-image-{release}"))
            .join("broadcom/bcm2711-rpi-4-b.dtb"),
    };
    let newest = files.modules.join("kernel/drivers/net/ethernet/intel/e1000/e1000.ko");
    let whole = newest.is_file()
        && has_modules(&files.modules)
        && files.busybox.is_file()
        && files.rpi4_tree.is_file();
    whole.then_some(files)
}
