//! The guest's device tree.

use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, vec};

use palisade_gic::Version;
use vm_fdt::{Error, FdtWriter};

use crate::layout::{
    CPU_INTERFACE, CPU_INTERFACE_BYTES, DISTRIBUTOR, DISTRIBUTOR_BYTES, ITS, ITS_BYTES,
    PHYSICAL_TIMER, RAM, REDISTRIBUTORS, UART, UART_BYTES, UART_CLOCK, UART_INTID, VIRTUAL_TIMER,
};
use crate::passthrough::{PlainSet, describe_plain};
use crate::pci;

const GIC: u32 = 1;
const CLOCK: u32 = 2;
const ITS_PHANDLE: u32 = 3;
/// Interrupt specifiers: type, number, flags.
const SPI: u32 = 0;
const PPI: u32 = 1;
const LEVEL_HIGH: u32 = 4;
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
    /// Its devices by device tree path.
    pub plain: Option<&'a PlainSet<'a>>,
    /// Its devices' DMA is not isolated: the tree says so, too.
    pub no_dma_isolation: bool,
}

/// Writes the tree of `machine`.
///
/// # Errors
/// The writer's: a text with a NUL in it.
pub fn tree(machine: &Machine<'_>) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "palisade,virt-1")?;
    fdt.property_string("model", "Palisade virtual machine")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", GIC)?;
    chosen(&mut fdt, machine)?;
    let memory = fdt.begin_node(&format!("memory@{RAM:x}"))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[RAM, machine.memory])?;
    fdt.end_node(memory)?;
    cpus(&mut fdt, machine.vcpus)?;
    let psci = fdt.begin_node("psci")?;
    fdt.property_string_list(
        "compatible",
        vec!["arm,psci-1.0".to_string(), "arm,psci-0.2".to_string()],
    )?;
    fdt.property_string("method", "hvc")?;
    fdt.end_node(psci)?;
    timer(&mut fdt)?;
    gic(&mut fdt, machine)?;
    uart(&mut fdt)?;
    if machine.pci {
        let its = machine.its.then_some(ITS_PHANDLE);
        pci::describe(&mut fdt, pci::Interrupts { gic: GIC, gic_address_cells: 2, its })?;
    }
    if let Some(plain) = machine.plain {
        describe_plain(&mut fdt, plain)?;
    }
    fdt.end_node(root)?;
    fdt.finish()
}

fn chosen(fdt: &mut FdtWriter, machine: &Machine<'_>) -> Result<(), Error> {
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", machine.bootargs)?;
    fdt.property_string("stdout-path", &format!("/pl011@{UART:x}"))?;
    if let Some((start, bytes)) = machine.initrd {
        fdt.property_u64("linux,initrd-start", start)?;
        fdt.property_u64("linux,initrd-end", start.saturating_add(bytes))?;
    }
    if machine.no_dma_isolation {
        fdt.property_string("palisade,dma-isolation", "none")?;
    }
    fdt.end_node(node)
}

fn cpus(fdt: &mut FdtWriter, count: usize) -> Result<(), Error> {
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for number in 0..count as u32 {
        let cpu = fdt.begin_node(&format!("cpu@{number:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "arm,armv8")?;
        fdt.property_u32("reg", number)?;
        fdt.property_string("enable-method", "psci")?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)
}

fn timer(fdt: &mut FdtWriter) -> Result<(), Error> {
    let node = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    let mut lines = Vec::new();
    for intid in [TIMER_SECURE, PHYSICAL_TIMER, VIRTUAL_TIMER, TIMER_HYPERVISOR] {
        lines.extend([PPI, intid - 16, LEVEL_HIGH]);
    }
    fdt.property_array_u32("interrupts", &lines)?;
    fdt.property_null("always-on")?;
    fdt.end_node(node)
}

fn gic(fdt: &mut FdtWriter, machine: &Machine<'_>) -> Result<(), Error> {
    let node = fdt.begin_node(&format!("intc@{DISTRIBUTOR:x}"))?;
    match machine.gic {
        Version::V3 => {
            fdt.property_string("compatible", "arm,gic-v3")?;
            let redistributors = REDISTRIBUTOR_BYTES.saturating_mul(machine.vcpus as u64);
            let regions = [DISTRIBUTOR, DISTRIBUTOR_BYTES, REDISTRIBUTORS, redistributors];
            fdt.property_array_u64("reg", &regions)?;
        }
        Version::V2 => {
            fdt.property_string("compatible", "arm,cortex-a15-gic")?;
            let regions = [DISTRIBUTOR, 0x1000, CPU_INTERFACE, CPU_INTERFACE_BYTES];
            fdt.property_array_u64("reg", &regions)?;
        }
    }
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
    fdt.property_phandle(GIC)?;
    if machine.its {
        let its = fdt.begin_node(&format!("its@{ITS:x}"))?;
        fdt.property_string("compatible", "arm,gic-v3-its")?;
        fdt.property_null("msi-controller")?;
        fdt.property_u32("#msi-cells", 1)?;
        fdt.property_array_u64("reg", &[ITS, ITS_BYTES])?;
        fdt.property_phandle(ITS_PHANDLE)?;
        fdt.end_node(its)?;
    }
    fdt.end_node(node)
}

fn uart(fdt: &mut FdtWriter) -> Result<(), Error> {
    let clock = fdt.begin_node("apb-pclk")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", UART_CLOCK)?;
    fdt.property_phandle(CLOCK)?;
    fdt.end_node(clock)?;
    let uart = fdt.begin_node(&format!("pl011@{UART:x}"))?;
    fdt.property_string_list(
        "compatible",
        vec!["arm,pl011".to_string(), "arm,primecell".to_string()],
    )?;
    fdt.property_array_u64("reg", &[UART, UART_BYTES])?;
    fdt.property_array_u32("interrupts", &[SPI, UART_INTID - 32, LEVEL_HIGH])?;
    fdt.property_array_u32("clocks", &[CLOCK, CLOCK])?;
    fdt.property_string_list("clock-names", vec!["uartclk".to_string(), "apb_pclk".to_string()])?;
    fdt.end_node(uart)
}
