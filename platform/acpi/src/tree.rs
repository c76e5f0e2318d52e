//! A board as a device tree, which is the one form in which the hypervisor takes a machine
//! (Devicetree Specification v0.4, and the bindings of its nodes).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use palisade_board::{
    BoardInfo, Conduit, EnableMethod, Gic, IdMap, Interrupt, PcieHost, Range, Smmu, Space, Trigger,
    Uart, UartKind, Version,
};
use vm_fdt::FdtWriter;

/// Why a board cannot be written down.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TreeError {
    /// The writer refuses a name or a value.
    #[error("the device tree cannot be written: {0}")]
    Writer(String),
    /// The board has something that has no form here.
    #[error("the device tree cannot be written: {0}")]
    NoForm(&'static str),
}

impl From<vm_fdt::Error> for TreeError {
    fn from(error: vm_fdt::Error) -> Self {
        Self::Writer(error.to_string())
    }
}

type Result<T = ()> = core::result::Result<T, TreeError>;

/// The device tree that says what `board` says.
///
/// # Errors
/// Something in it has no form in a device tree.
pub fn tree(board: &BoardInfo<'_>) -> Result<Vec<u8>> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", board.gic.phandle)?;
    text(&mut fdt, "model", board.model)?;
    text(&mut fdt, "compatible", board.compatible)?;
    chosen(&mut fdt, board)?;
    memory(&mut fdt, board)?;
    cores(&mut fdt, board)?;
    gic(&mut fdt, &board.gic)?;
    timer(&mut fdt, board)?;
    if let Some(uart) = &board.uart {
        console(&mut fdt, uart)?;
    }
    for smmu in &board.smmus {
        self::smmu(&mut fdt, smmu)?;
    }
    for host in &board.pcie {
        self::host(&mut fdt, host)?;
    }
    if board.power.is_some() {
        return Err(TreeError::NoForm("a power manager"));
    }
    fdt.end_node(root)?;
    Ok(fdt.finish()?)
}

fn text(fdt: &mut FdtWriter, name: &str, text: &str) -> Result {
    if text.is_empty() { Ok(()) } else { Ok(fdt.property_string(name, text)?) }
}

/// What a UART's node is called.
fn uart_name(uart: &Uart) -> String {
    format!("serial@{:x}", uart.registers.start())
}

fn chosen(fdt: &mut FdtWriter, board: &BoardInfo<'_>) -> Result {
    let node = fdt.begin_node("chosen")?;
    text(fdt, "bootargs", board.chosen.bootargs)?;
    if let Some(initrd) = board.chosen.initrd {
        fdt.property_u64("linux,initrd-start", initrd.start())?;
        fdt.property_u64("linux,initrd-end", initrd.end())?;
    }
    if let Some(uart) = &board.uart {
        fdt.property_string("stdout-path", &format!("/{}", uart_name(uart)))?;
    }
    let kept = board.pcie.iter().filter(|host| host.keep).count();
    if kept != 0 && kept != board.pcie.len() {
        return Err(TreeError::NoForm("PCIe hosts of which only some keep their numbers"));
    }
    if kept != 0 {
        fdt.property_u32("linux,pci-probe-only", 1)?;
    }
    Ok(fdt.end_node(node)?)
}

fn reg(fdt: &mut FdtWriter, ranges: &[Range]) -> Result {
    let numbers: Vec<u64> = ranges.iter().flat_map(|range| [range.start(), range.size()]).collect();
    Ok(fdt.property_array_u64("reg", &numbers)?)
}

fn memory(fdt: &mut FdtWriter, board: &BoardInfo<'_>) -> Result {
    let first = board.memory.first().ok_or(TreeError::NoForm("no memory"))?;
    let node = fdt.begin_node(&format!("memory@{:x}", first.start()))?;
    fdt.property_string("device_type", "memory")?;
    reg(fdt, &board.memory)?;
    fdt.end_node(node)?;
    if board.reserved.is_empty() {
        return Ok(());
    }
    let node = fdt.begin_node("reserved-memory")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
    for (index, reserved) in board.reserved.iter().enumerate() {
        // Several may begin at one address: the number keeps their names apart.
        let name = format!("kept{index}@{:x}", reserved.range.start());
        let child = fdt.begin_node(&name)?;
        reg(fdt, &[reserved.range])?;
        if reserved.no_map {
            fdt.property_null("no-map")?;
        }
        fdt.end_node(child)?;
    }
    Ok(fdt.end_node(node)?)
}

fn cores(fdt: &mut FdtWriter, board: &BoardInfo<'_>) -> Result {
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 0)?;
    for cpu in &board.cpus {
        let node = fdt.begin_node(&format!("cpu@{:x}", cpu.mpidr))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_u64("reg", cpu.mpidr)?;
        match cpu.enable {
            EnableMethod::Psci => fdt.property_string("enable-method", "psci")?,
            EnableMethod::SpinTable { release } => {
                fdt.property_string("enable-method", "spin-table")?;
                fdt.property_u64("cpu-release-addr", release.get())?;
            }
            EnableMethod::None => {}
        }
        fdt.end_node(node)?;
    }
    fdt.end_node(cpus)?;
    let Some(conduit) = board.psci else { return Ok(()) };
    let node = fdt.begin_node("psci")?;
    fdt.property_string("compatible", "arm,psci-1.0")?;
    let method = if conduit == Conduit::Smc { "smc" } else { "hvc" };
    fdt.property_string("method", method)?;
    Ok(fdt.end_node(node)?)
}

/// The three cells of an interrupt: kind, number, flags (the GIC's binding).
fn specifier(interrupt: Interrupt) -> Result<[u32; 3]> {
    let intid = interrupt.intid;
    let (kind, first) = match intid {
        16..=31 => (1, 16),
        32..=1019 => (0, 32),
        1056..=1119 => (3, 1056),
        4096..=5119 => (2, 4096),
        _ => return Err(TreeError::NoForm("an interrupt that the GIC does not have")),
    };
    let flags = if interrupt.trigger == Trigger::Edge { 1 } else { 4 };
    Ok([kind, intid.saturating_sub(first), flags])
}

/// Interrupts that there are, with their names.
fn interrupts(fdt: &mut FdtWriter, named: &[(&str, Option<Interrupt>)]) -> Result {
    let mut cells = Vec::new();
    let mut names = Vec::new();
    for (name, interrupt) in named {
        if let Some(interrupt) = interrupt {
            cells.extend(specifier(*interrupt)?);
            names.push((*name).to_string());
        }
    }
    if cells.is_empty() {
        return Ok(());
    }
    fdt.property_array_u32("interrupts", &cells)?;
    Ok(fdt.property_string_list("interrupt-names", names)?)
}

fn gic(fdt: &mut FdtWriter, gic: &Gic) -> Result {
    let node = fdt.begin_node(&format!("interrupt-controller@{:x}", gic.distributor.start()))?;
    fdt.property_phandle(gic.phandle)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
    if let Some(interrupt) = gic.maintenance {
        fdt.property_array_u32("interrupts", &specifier(interrupt)?)?;
    }
    let mut ranges = Vec::from([gic.distributor]);
    match &gic.version {
        Version::V2 { cpu, hypervisor, virtual_cpu, v2m } => {
            fdt.property_string("compatible", "arm,gic-400")?;
            ranges.push(*cpu);
            match (hypervisor, virtual_cpu) {
                (Some(hypervisor), virtual_cpu) => {
                    ranges.push(*hypervisor);
                    ranges.extend(virtual_cpu);
                }
                (None, None) => {}
                (None, Some(_)) => return Err(TreeError::NoForm("a GICV without a GICH")),
            }
            reg(fdt, &ranges)?;
            if let Some(v2m) = v2m {
                let frame = fdt.begin_node(&format!("v2m@{:x}", v2m.start()))?;
                fdt.property_string("compatible", "arm,gic-v2m-frame")?;
                fdt.property_null("msi-controller")?;
                reg(fdt, &[*v2m])?;
                fdt.end_node(frame)?;
            }
        }
        Version::V3 { redistributors, stride, its } => {
            fdt.property_string("compatible", "arm,gic-v3")?;
            let regions = u32::try_from(redistributors.len()).unwrap_or(u32::MAX);
            fdt.property_u32("#redistributor-regions", regions)?;
            if let Some(stride) = stride {
                fdt.property_u64("redistributor-stride", *stride)?;
            }
            ranges.extend(redistributors);
            reg(fdt, &ranges)?;
            for its in its {
                let child = fdt.begin_node(&format!("its@{:x}", its.registers.start()))?;
                fdt.property_string("compatible", "arm,gic-v3-its")?;
                fdt.property_null("msi-controller")?;
                fdt.property_u32("#msi-cells", 1)?;
                fdt.property_phandle(its.phandle)?;
                reg(fdt, &[its.registers])?;
                fdt.end_node(child)?;
            }
        }
    }
    Ok(fdt.end_node(node)?)
}

fn timer(fdt: &mut FdtWriter, board: &BoardInfo<'_>) -> Result {
    let timer = &board.timer;
    let node = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    let named = [
        ("sec-phys", timer.secure),
        ("phys", Some(timer.physical)),
        ("virt", Some(timer.virtual_)),
        ("hyp-phys", timer.hypervisor),
        ("hyp-virt", timer.hypervisor_virtual),
    ];
    interrupts(fdt, &named)?;
    if let Some(frequency) = timer.frequency {
        fdt.property_u32("clock-frequency", frequency)?;
    }
    Ok(fdt.end_node(node)?)
}

fn console(fdt: &mut FdtWriter, uart: &Uart) -> Result {
    let node = fdt.begin_node(&uart_name(uart))?;
    match uart.kind {
        UartKind::Pl011 => fdt.property_string("compatible", "arm,pl011")?,
        UartKind::Sbsa => fdt.property_string("compatible", "arm,sbsa-uart")?,
        UartKind::Ns16550 { shift, width } => {
            fdt.property_string("compatible", "ns16550a")?;
            fdt.property_u32("reg-shift", shift.into())?;
            fdt.property_u32("reg-io-width", width.into())?;
        }
    }
    reg(fdt, &[uart.registers])?;
    if let Some(interrupt) = uart.interrupt {
        fdt.property_array_u32("interrupts", &specifier(interrupt)?)?;
    }
    if let Some(clock) = uart.clock {
        fdt.property_u32("clock-frequency", clock)?;
    }
    if let Some(baud) = uart.baud {
        fdt.property_u32("current-speed", baud)?;
    }
    Ok(fdt.end_node(node)?)
}

fn smmu(fdt: &mut FdtWriter, smmu: &Smmu) -> Result {
    let node = fdt.begin_node(&format!("iommu@{:x}", smmu.registers.start()))?;
    fdt.property_string("compatible", "arm,smmu-v3")?;
    reg(fdt, &[smmu.registers])?;
    if smmu.phandle != 0 {
        fdt.property_phandle(smmu.phandle)?;
    }
    fdt.property_u32("#iommu-cells", 1)?;
    let named = [
        ("eventq", smmu.eventq),
        ("priq", smmu.priq),
        ("cmdq-sync", smmu.cmdq_sync),
        ("gerror", smmu.gerror),
        ("combined", smmu.combined),
    ];
    interrupts(fdt, &named)?;
    if smmu.coherent {
        fdt.property_null("dma-coherent")?;
    }
    Ok(fdt.end_node(node)?)
}

fn id_map(fdt: &mut FdtWriter, map: &str, mask: &str, ids: &IdMap) -> Result {
    if let Some(value) = ids.mask {
        fdt.property_u32(mask, value)?;
    }
    if ids.entries.is_empty() {
        return Ok(());
    }
    let cells = ids.entries.iter();
    let cells = cells.flat_map(|line| [line.input, line.controller, line.output, line.length]);
    Ok(fdt.property_array_u32(map, &cells.collect::<Vec<u32>>())?)
}

/// Upper and lower word of an address.
const fn words(value: u64) -> [u32; 2] {
    [(value >> 32) as u32, (value & 0xffff_ffff) as u32]
}

fn host(fdt: &mut FdtWriter, host: &PcieHost) -> Result {
    if !host.interrupt_map.is_empty() {
        return Err(TreeError::NoForm("wires of a PCIe host"));
    }
    let node = fdt.begin_node(&format!("pcie@{:x}", host.ecam.start()))?;
    fdt.property_string("compatible", "pci-host-ecam-generic")?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    reg(fdt, &[host.ecam])?;
    fdt.property_u32("linux,pci-domain", host.segment.into())?;
    fdt.property_array_u32("bus-range", &[host.first_bus.into(), host.last_bus.into()])?;
    let mut cells = Vec::new();
    for window in &host.windows {
        // PCI Bus Binding to IEEE 1275, section 2.2.1.1.
        let space = match window.space {
            Space::Io => 1u32,
            Space::Memory32 => 2,
            Space::Memory64 => 3,
        };
        let prefetchable = if window.prefetchable { 1 << 30 } else { 0 };
        cells.push(space << 24 | prefetchable);
        for value in [window.bus, window.cpu.start(), window.cpu.size()] {
            cells.extend(words(value));
        }
    }
    if !cells.is_empty() {
        fdt.property_array_u32("ranges", &cells)?;
    }
    id_map(fdt, "iommu-map", "iommu-map-mask", &host.iommu_map)?;
    id_map(fdt, "msi-map", "msi-map-mask", &host.msi_map)?;
    if host.coherent {
        fdt.property_null("dma-coherent")?;
    }
    Ok(fdt.end_node(node)?)
}
