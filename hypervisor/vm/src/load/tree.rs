//! The guest's device tree.

use alloc::format;
use alloc::vec::Vec;

use palisade_gic::Version;

use super::writer::TreeWriter;
use crate::layout::{
    CPU_INTERFACE, CPU_INTERFACE_BYTES, DISTRIBUTOR, DISTRIBUTOR_BYTES, ITS, ITS_BYTES,
    PHYSICAL_TIMER, RAM, REDISTRIBUTORS, SMMU, SMMU_BYTES, SMMU_INTID, SMMU_INTIDS, UART,
    UART_BYTES, UART_CLOCK, UART_INTID, VARIABLES, VARIABLES_BYTES, VIRTUAL_TIMER,
};
use crate::passthrough::{PlainSet, describe_plain};
use crate::pci;

const GIC: u32 = 1;
const CLOCK: u32 = 2;
const ITS_PHANDLE: u32 = 3;
/// The first SMMU's; the others' follow.
const SMMU_PHANDLE: u32 = 4;
/// Interrupt specifiers: type, number, flags.
const SPI: u32 = 0;
const PPI: u32 = 1;
const LEVEL_HIGH: u32 = 4;
const EDGE_RISING: u32 = 1;
/// Timer interrupts that a guest has no use for, but whose places the binding wants: secure
/// (PPI 13) and hypervisor (PPI 10).
const TIMER_SECURE: u32 = 29;
const TIMER_HYPERVISOR: u32 = 26;
/// A redistributor's frames.
const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;

/// What the tree says of a VM.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// Number of vCPUs; their affinities are 0, 1, 2 and so on.
    pub vcpus: usize,
    /// Bytes of RAM.
    pub memory: u64,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// First byte and bytes of the initrd.
    pub initrd: Option<(u64, u64)>,
    /// Which interrupt controller it sees.
    pub gic: Version,
    /// It has an interrupt translation service.
    pub its: bool,
    /// It has a PCI host.
    pub pci: bool,
    /// It starts with firmware in flash, and has a bank for that one's variables.
    pub firmware: bool,
    /// Its SMMUs, and the devices on its bus that stand behind each.
    pub smmus: &'a [Vec<u32>],
    /// Its devices by device tree path.
    pub plain: Option<&'a PlainSet<'a>>,
    /// Its devices' DMA is not isolated: the tree says so, too.
    pub no_dma_isolation: bool,
}

/// Writes the tree of `machine`.
///
/// # Errors
/// A text with a NUL in it.
pub fn tree(machine: &Machine<'_>) -> Result<Vec<u8>, vm_fdt::Error> {
    let mut fdt = TreeWriter::new();
    fdt.begin("");
    fdt.text("compatible", "palisade,virt-1");
    fdt.text("model", "Palisade virtual machine");
    fdt.cell("#address-cells", 2);
    fdt.cell("#size-cells", 2);
    fdt.cell("interrupt-parent", GIC);
    chosen(&mut fdt, machine);
    fdt.begin_at("memory", RAM);
    fdt.text("device_type", "memory");
    fdt.pairs("reg", &[RAM, machine.memory]);
    fdt.end();
    cpus(&mut fdt, machine.vcpus);
    fdt.begin("psci");
    fdt.texts("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
    fdt.text("method", "hvc");
    fdt.end();
    timer(&mut fdt);
    gic(&mut fdt, machine);
    uart(&mut fdt);
    if machine.firmware {
        fdt.begin_at("flash", VARIABLES);
        fdt.text("compatible", "cfi-flash");
        fdt.pairs("reg", &[VARIABLES, VARIABLES_BYTES]);
        fdt.cell("bank-width", 4);
        fdt.end();
    }
    if machine.pci {
        let its = machine.its.then_some(ITS_PHANDLE);
        let interrupts = pci::Interrupts { gic: GIC, gic_address_cells: 2, its };
        pci::describe(&mut fdt, interrupts, &iommu_map(machine.smmus));
    }
    for number in 0..machine.smmus.len() {
        smmu(&mut fdt, number as u32);
    }
    if let Some(plain) = machine.plain {
        describe_plain(&mut fdt, plain);
    }
    fdt.end();
    fdt.finish()
}

fn chosen(fdt: &mut TreeWriter, machine: &Machine<'_>) {
    fdt.begin("chosen");
    fdt.text("bootargs", machine.bootargs);
    fdt.text("stdout-path", &format!("/pl011@{UART:x}"));
    if let Some((start, bytes)) = machine.initrd {
        fdt.pairs("linux,initrd-start", &[start]);
        fdt.pairs("linux,initrd-end", &[start.saturating_add(bytes)]);
    }
    if machine.no_dma_isolation {
        fdt.text("palisade,dma-isolation", "none");
    }
    fdt.end();
}

fn cpus(fdt: &mut TreeWriter, count: usize) {
    fdt.begin("cpus");
    fdt.cell("#address-cells", 1);
    fdt.cell("#size-cells", 0);
    for number in 0..count as u32 {
        fdt.begin_at("cpu", u64::from(number));
        fdt.text("device_type", "cpu");
        fdt.text("compatible", "arm,armv8");
        fdt.cell("reg", number);
        fdt.text("enable-method", "psci");
        fdt.end();
    }
    fdt.end();
}

fn timer(fdt: &mut TreeWriter) {
    fdt.begin("timer");
    fdt.text("compatible", "arm,armv8-timer");
    let mut lines = Vec::new();
    for intid in [TIMER_SECURE, PHYSICAL_TIMER, VIRTUAL_TIMER, TIMER_HYPERVISOR] {
        lines.extend([PPI, intid - 16, LEVEL_HIGH]);
    }
    fdt.cells("interrupts", &lines);
    fdt.flag("always-on");
    fdt.end();
}

fn gic(fdt: &mut TreeWriter, machine: &Machine<'_>) {
    fdt.begin_at("intc", DISTRIBUTOR);
    match machine.gic {
        Version::V3 => {
            fdt.text("compatible", "arm,gic-v3");
            let redistributors = REDISTRIBUTOR_BYTES.saturating_mul(machine.vcpus as u64);
            let regions = [DISTRIBUTOR, DISTRIBUTOR_BYTES, REDISTRIBUTORS, redistributors];
            fdt.pairs("reg", &regions);
        }
        Version::V2 => {
            fdt.text("compatible", "arm,cortex-a15-gic");
            let regions = [DISTRIBUTOR, 0x1000, CPU_INTERFACE, CPU_INTERFACE_BYTES];
            fdt.pairs("reg", &regions);
        }
    }
    fdt.flag("interrupt-controller");
    fdt.cell("#interrupt-cells", 3);
    fdt.cell("#address-cells", 2);
    fdt.cell("#size-cells", 2);
    fdt.flag("ranges");
    fdt.cell("phandle", GIC);
    if machine.its {
        fdt.begin_at("its", ITS);
        fdt.text("compatible", "arm,gic-v3-its");
        fdt.flag("msi-controller");
        fdt.cell("#msi-cells", 1);
        fdt.pairs("reg", &[ITS, ITS_BYTES]);
        fdt.cell("phandle", ITS_PHANDLE);
        fdt.end();
    }
    fdt.end();
}

/// An SMMU's node; its interrupts are edges (IHI 0070, 3.18).
fn smmu(fdt: &mut TreeWriter, number: u32) {
    let base = SMMU + u64::from(number) * SMMU_BYTES;
    let first = SMMU_INTID + number * SMMU_INTIDS - 32;
    fdt.begin_at("iommu", base);
    fdt.text("compatible", "arm,smmu-v3");
    fdt.pairs("reg", &[base, SMMU_BYTES]);
    let line = |nth: u32| [SPI, first + nth, EDGE_RISING];
    fdt.cells("interrupts", &[line(0), line(1), line(2)].concat());
    fdt.texts("interrupt-names", &["eventq", "cmdq-sync", "gerror"]);
    fdt.cell("#iommu-cells", 1);
    fdt.flag("dma-coherent");
    fdt.cell("phandle", SMMU_PHANDLE + number);
    fdt.end();
}

/// Which SMMU each requester id of the PCI host goes to, as `iommu-map` says it: the first one but
/// for the devices behind the others. A device that is plugged in later keeps to the first.
fn iommu_map(smmus: &[Vec<u32>]) -> Vec<u32> {
    let mut others: Vec<(u32, u32)> = Vec::new();
    for (number, devices) in (0..).zip(smmus).skip(1) {
        others.extend(devices.iter().map(|&device| (device & 0xffff, number)));
    }
    others.sort_unstable();
    let mut map = Vec::new();
    let mut next = 0;
    let mut entry = |first: u32, end: u32, number: u32| {
        if first < end {
            map.extend([first, SMMU_PHANDLE + number, first, end - first]);
        }
    };
    for (device, number) in others {
        entry(next, device, 0);
        entry(device.max(next), device + 1, number);
        next = device + 1;
    }
    if !smmus.is_empty() {
        entry(next, 0x1_0000, 0);
    }
    map
}

fn uart(fdt: &mut TreeWriter) {
    fdt.begin("apb-pclk");
    fdt.text("compatible", "fixed-clock");
    fdt.cell("#clock-cells", 0);
    fdt.cell("clock-frequency", UART_CLOCK);
    fdt.cell("phandle", CLOCK);
    fdt.end();
    fdt.begin_at("pl011", UART);
    fdt.texts("compatible", &["arm,pl011", "arm,primecell"]);
    fdt.pairs("reg", &[UART, UART_BYTES]);
    fdt.cells("interrupts", &[SPI, UART_INTID - 32, LEVEL_HIGH]);
    fdt.cells("clocks", &[CLOCK, CLOCK]);
    fdt.texts("clock-names", &["uartclk", "apb_pclk"]);
    fdt.end();
}
