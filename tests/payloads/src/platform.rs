//! The machine as its device tree tells it.

use fdt::Fdt;

use crate::{console, power};

/// What payloads need to know.
#[derive(Clone, Copy)]
pub struct Platform<'a> {
    /// The device tree itself.
    pub fdt: Fdt<'a>,
    /// Command line.
    pub bootargs: &'a str,
    /// First address and size of RAM.
    pub ram: (usize, usize),
    /// PCI configuration space, when there is a PCI host.
    pub ecam: Option<usize>,
    /// The PCI host's 32-bit window: CPU address and size.
    pub window: Option<(u64, u64)>,
}

/// Reads the device tree and sets up the console and PSCI.
///
/// # Safety
/// `dtb` is what the boot protocol gave.
pub unsafe fn read<'a>(dtb: usize) -> Option<Platform<'a>> {
    if dtb == 0 || !dtb.is_multiple_of(8) {
        return None;
    }
    // SAFETY: the caller's; the crate checks the magic.
    let fdt = unsafe { Fdt::from_ptr(dtb as *const u8) }.ok()?;
    let first = |compatible: &[&str]| {
        let node = fdt.find_compatible(compatible)?;
        let base = node.reg()?.next()?.starting_address as usize;
        Some((node, base))
    };
    if let Some((_, base)) = first(&["arm,pl011"]) {
        console::set(base);
    }
    let psci = fdt.find_compatible(&["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]);
    if psci.and_then(|node| node.property("method")?.as_str()) == Some("smc") {
        power::use_smc();
    }
    let host = first(&["pci-host-ecam-generic"]);
    let window = host.and_then(|(node, _)| window(node.property("ranges")?.value));
    let region = fdt.memory().regions().next()?;
    Some(Platform {
        fdt,
        bootargs: fdt.chosen().bootargs().unwrap_or_default(),
        ram: (region.starting_address as usize, region.size.unwrap_or(0)),
        ecam: host.map(|(_, base)| base),
        window,
    })
}

/// The 32-bit memory window of a `ranges` property: seven cells per entry, space code 2.
fn window(ranges: &[u8]) -> Option<(u64, u64)> {
    ranges.chunks_exact(28).find_map(|entry| {
        let cell = |n: usize| {
            let bytes = entry.get(4 * n..4 * n + 4)?.try_into().ok()?;
            Some(u64::from(u32::from_be_bytes(bytes)))
        };
        if cell(0)? >> 24 & 3 != 2 {
            return None;
        }
        Some((cell(3)? << 32 | cell(4)?, cell(5)? << 32 | cell(6)?))
    })
}
