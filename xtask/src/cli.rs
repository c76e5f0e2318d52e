//! The public interface: commands and their options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Builds, runs, tests and measures Palisade.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build, boot QEMU, play a scenario and judge it
    Run(Box<RunOptions>),
    /// Run all tests
    Test(TestOptions),
    /// Measure
    Bench(BenchOptions),
    /// Check the vector files against the code
    Vectors(VectorsOptions),
    /// Pack VMs into a bundle
    Bundle(BundleOptions),
    /// Write a bootable directory for an SD card or a UEFI volume
    Image(ImageOptions),
    /// Read every device tree of a folder, or of Debian's kernels, and count what is refused
    Boards(BoardsOptions),
    /// Check formatting, lints, documentation, directions, the unsafe list and the tidy rules
    Lint,
    /// Print text, data and bss per crate
    Size,
    /// Install, or name, what is missing
    Setup(SetupOptions),
}

/// The boards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Board {
    /// QEMU's virt machine
    QemuVirt,
    /// Raspberry Pi 4
    Rpi4,
}

impl Board {
    /// Its name in reports and packages.
    pub fn name(self) -> &'static str {
        match self {
            Self::QemuVirt => "qemu-virt",
            Self::Rpi4 => "rpi4",
        }
    }
}

/// How the machine gets to the hypervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Boot {
    /// QEMU loads it, with a device tree
    #[default]
    Direct,
    /// UEFI starts palisade.efi, which takes it from a volume; ACPI instead of a device tree
    Uefi,
}

/// Options of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// A scenario's name in tests/scenarios, or a TOML file
    #[arg(conflicts_with_all = ["bundle", "kernel", "guest_firmware"])]
    pub scenario: Option<String>,
    /// The board
    #[arg(long, value_enum, default_value = "qemu-virt")]
    pub board: Board,
    /// The board's device tree (rpi4)
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// How the machine of a scenario gets to the hypervisor (qemu-virt)
    #[arg(long, value_enum, default_value = "direct", conflicts_with_all = ["bundle", "guest"])]
    pub boot: Boot,
    /// The machine's own firmware for --boot uefi; Debian's EDK2 when none is given
    #[arg(long, value_name = "FILE")]
    pub firmware: Option<PathBuf>,
    /// Where to write the report
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Moves the placement of VMs and canaries
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The QEMU to use
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<PathBuf>,
    /// Boot this bundle
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    pub bundle: Option<PathBuf>,
    /// Boot this arm64 kernel or flat image as the only guest
    #[arg(long, value_name = "IMAGE", group = "guest")]
    pub kernel: Option<PathBuf>,
    /// Boot this firmware as the only guest: it starts in flash at address 0, its variables can be
    /// written, and the device tree is at the start of RAM; debian:u-boot and debian:edk2 are fetched
    #[arg(long, value_name = "FILE", group = "guest", conflicts_with = "bundle")]
    pub guest_firmware: Option<PathBuf>,
    /// The guest's initrd
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// The guest's command line
    #[arg(long, value_name = "TEXT", requires = "guest", allow_hyphen_values = true)]
    pub append: Option<String>,
    /// The guest's own IOMMU: "smmuv3", or "none"
    #[arg(long, value_name = "KIND", requires = "guest")]
    pub iommu: Option<String>,
    /// The guest's vCPUs
    #[arg(long, value_name = "N", default_value_t = 1, requires = "guest")]
    pub vcpus: u32,
    /// The guest's memory
    #[arg(long, value_name = "SIZE", default_value = "256MiB", requires = "guest")]
    pub memory: String,
    /// A device for the guest: where the guest sees it, and what QEMU makes
    #[arg(long, value_name = "BDF=QEMU-DEVICE", requires = "guest")]
    pub device: Vec<String>,
    /// The machine's GIC
    #[arg(long, value_name = "2|3", value_parser = clap::value_parser!(u8).range(2..=3))]
    pub gic: Option<u8>,
    /// The machine's CPU
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<String>,
    /// Seconds allowed for the whole run
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// One more argument for QEMU
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_arg: Vec<String>,
}

/// Options of `test`.
#[derive(Args, Clone, Debug)]
pub struct TestOptions {
    /// Only what needs no QEMU
    #[arg(long, conflicts_with = "qemu_only")]
    pub host: bool,
    /// Only what runs in QEMU
    #[arg(long = "qemu", id = "qemu_only")]
    pub qemu: bool,
    /// Full step counts, fuzzing, Miri, mutants
    #[arg(long)]
    pub long: bool,
    /// Only the QEMU rows, and with --long the steps planted-*, boards, miri-*, fuzz-*, mutants-*, whose
    /// name holds this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}

/// Options of `bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchOptions {
    /// Where to write the numbers
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A Linux guest beside the same Linux on plain QEMU, and nothing else
    #[arg(long)]
    pub guests: bool,
    /// With `--guests`: both behind an SMMU that the guest drives, strictly
    #[arg(long, requires = "guests")]
    pub iommu: bool,
    /// What each of a guest's exits costs, and nothing else
    #[arg(long, conflicts_with = "guests")]
    pub exits: bool,
}

/// Options of `vectors`.
#[derive(Args, Clone, Debug)]
pub struct VectorsOptions {
    /// CSV files, or folders of them
    #[arg(required = true, value_name = "DIR|FILE")]
    pub paths: Vec<PathBuf>,
}

/// Options of `bundle`.
#[derive(Args, Clone, Debug)]
pub struct BundleOptions {
    /// The VMs' description
    #[arg(value_name = "VMS.TOML")]
    pub file: PathBuf,
    /// Where to write the bundle
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// What `image` writes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Medium {
    /// A Raspberry Pi 4's SD card
    Rpi4,
    /// The volume that a machine with UEFI boots from
    Uefi,
}

/// Options of `image`.
#[derive(Args, Clone, Debug)]
pub struct ImageOptions {
    /// The board
    #[arg(long, value_enum)]
    pub board: Medium,
    /// The bundle to boot
    #[arg(long, value_name = "FILE")]
    pub bundle: PathBuf,
    /// The board's device tree
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// The directory to write
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
}

/// Options of `boards`.
#[derive(Args, Clone, Debug)]
pub struct BoardsOptions {
    /// A folder with device trees (*.dtb); Debian's arm64 kernel packages when none is given
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Options of `setup`.
#[derive(Args, Clone, Debug, Default)]
pub struct SetupOptions {
    /// The QEMU to use
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<PathBuf>,
}
