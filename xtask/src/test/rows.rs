//! The end-to-end tests, one row each.

use crate::bundle::Vm;
use crate::cli::{Board, Boot};
use crate::run::{Change, Wish};

/// What must come of a row.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// The scenario's own checks pass.
    Pass,
    /// Nothing runs, and the report comes to its end.
    Ends,
    /// The hypervisor gives up before any guest starts, and its words hold these.
    GivesUp(&'static [&'static str]),
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The scenario's file.
    pub scenario: &'static str,
    /// The board.
    pub board: Board,
    /// QEMU's CPU; the scenario's when none.
    pub cpu: Option<&'static str>,
    /// The machine's GIC; the scenario's when none.
    pub gic: Option<u8>,
    /// Placement.
    pub seed: u64,
    /// What happens to the bundle.
    pub damage: Option<fn(&mut Vec<u8>)>,
    /// There is no bundle at all.
    pub bare: bool,
    /// How the machine gets to the hypervisor.
    pub boot: Boot,
    /// The hypervisor is booted as an ELF program instead of as an Image.
    pub elf: bool,
    /// What must come of it.
    pub verdict: Verdict,
    /// What else is different.
    pub change: Option<Change>,
}

const fn row(name: &'static str, scenario: &'static str) -> Row {
    Row {
        name,
        scenario,
        board: Board::QemuVirt,
        cpu: None,
        gic: None,
        seed: 1,
        damage: None,
        bare: false,
        boot: Boot::Direct,
        elf: false,
        verdict: Verdict::Pass,
        change: None,
    }
}

/// A row whose bundle is damaged as a whole.
const fn damaged(
    name: &'static str,
    damage: fn(&mut Vec<u8>),
    words: &'static [&'static str],
) -> Row {
    Row { damage: Some(damage), verdict: Verdict::GivesUp(words), ..row(name, "hello") }
}

/// All rows of the normal mode. What a scenario expects, its file says.
pub const ROWS: &[Row] = &[
    row("hello", "hello"),
    Row { bare: true, verdict: Verdict::Ends, ..row("no-bundle", "hello") },
    Row { bare: true, elf: true, verdict: Verdict::Ends, ..row("as-elf", "hello") },
    row("isolation", "isolation"),
    Row { cpu: Some("neoverse-n1"), seed: 2, ..row("isolation-neoverse-n1", "isolation") },
    Row { cpu: Some("max"), seed: 3, ..row("isolation-max", "isolation") },
    Row { gic: Some(2), seed: 4, ..row("isolation-gicv2", "isolation") },
    Row { boot: Boot::Uefi, seed: 5, ..row("uefi-isolation", "isolation") },
    Row {
        boot: Boot::Uefi,
        change: Some(|scenario, _| scenario.machine.push_str(",acpi=off")),
        ..row("uefi-tree", "isolation")
    },
    // There is an SMMU, and the IORT leads no function of the root bus to it.
    Row {
        boot: Boot::Uefi,
        change: Some(|scenario, _| {
            scenario.smmu = true;
            scenario.machine.push_str(",default-bus-bypass-iommu=on");
            scenario.timeout = 120;
        }),
        ..row("uefi-beyond-the-smmu", "refused-no-smmu")
    },
    Row { boot: Boot::Uefi, ..row("uefi-reassign", "reassign") },
    Row { boot: Boot::Uefi, ..row("uefi-linux", "linux") },
    Row { boot: Boot::Uefi, ..row("uefi-sva", "sva") },
    row("flood", "flood"),
    Row { gic: Some(2), ..row("flood-gicv2", "flood") },
    row("control-without-smmu", "control"),
    row("refused-without-smmu", "refused-no-smmu"),
    row("refused-without-stage-2", "refused-no-stage-2"),
    row("refused-one-by-one", "refused-vms"),
    row("functions-of-one-device", "functions"),
    row("reassign", "reassign"),
    row("restart", "restart"),
    row("reboots", "reboots"),
    Row { gic: Some(2), ..row("reboots-gicv2", "reboots") },
    row("walker", "walker"),
    row("burst", "burst"),
    row("exits", "exits"),
    row("instructions", "instructions"),
    Row { cpu: Some("cortex-a53"), ..row("instructions-a53", "instructions") },
    row("gremlin", "gremlin"),
    row("gremlin-iommu", "gremlin-iommu"),
    row("linux", "linux"),
    row("linux-gicv2", "linux-wired"),
    row("linux-iommu", "linux-iommu"),
    row("linux-ports", "linux-ports"),
    row("two-linux", "two-linux"),
    Row { board: Board::Rpi4, ..row("rpi4", "honest") },
    Row { board: Board::Rpi4, ..row("rpi4-control", "honest-control") },
    row("sva", "sva"),
    row("sva-iommu", "sva-iommu"),
    row("calls", "calls"),
    damaged("bundle-truncated", |bytes| bytes.truncate(bytes.len() / 2), &["bundle"]),
    damaged("bundle-empty-header", |bytes| bytes.truncate(60), &["bundle"]),
    damaged("bundle-no-cpio", |bytes| bytes.fill(0x5a), &["bundle"]),
    damaged("manifest-no-magic", |bytes| flip(bytes, 0), &["manifest.dtb"]),
    damaged("manifest-oversized", |bytes| flip(bytes, 4), &["manifest.dtb"]),
    damaged("manifest-structure", |bytes| flip(bytes, 8), &["manifest.dtb"]),
];

/// What the long mode plays beside them.
pub const LONG_ROWS: &[Row] = &[
    Row {
        change: Some(|scenario, _| (scenario.cycles, scenario.timeout) = (50, 6000)),
        ..row("restart-50", "restart")
    },
    Row {
        change: Some(|scenario, vms| {
            scenario.timeout = 1800;
            let vms = vms.iter_mut().filter(|vm| vm.name == "gremlin");
            vms.for_each(|vm| vm.bootargs = "seconds=600 seed=2".to_owned());
        }),
        ..row("gremlin-600", "gremlin")
    },
    row("two-linux-iommu", "two-linux-iommu"),
    Row {
        change: Some(|_, vms| with_kernel(vms, "trixie")),
        ..row("linux-iommu-trixie", "linux-iommu")
    },
    Row { change: Some(|_, vms| with_kernel(vms, "sid")), ..row("linux-iommu-sid", "linux-iommu") },
];

/// Another Debian release's kernel for every VM.
fn with_kernel(vms: &mut [Vm], release: &str) {
    for vm in vms {
        vm.kernel = format!("debian:kernel-{release}");
        vm.initrd = Some(format!("debian:initramfs-{release}"));
    }
}

/// Turns around a byte of the manifest: 110 bytes of cpio header and the padded name come first.
fn flip(bytes: &mut [u8], at: usize) {
    const MANIFEST: usize = (110 + "manifest.dtb\0".len()).next_multiple_of(4);
    if let Some(byte) = bytes.get_mut(MANIFEST + at) {
        *byte ^= 0xff;
    }
}

impl Row {
    /// What the row changes.
    pub fn wish(&self) -> Wish {
        Wish {
            board: self.board,
            seed: self.seed,
            gic: self.gic,
            cpu: self.cpu.map(str::to_owned),
            damage: self.damage,
            bare: self.bare,
            boot: self.boot,
            change: self.change,
            ..Wish::default()
        }
    }
}
