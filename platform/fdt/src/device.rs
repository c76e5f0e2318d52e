//! Devices outside PCI, found by their path, and whether they are bus masters.

use arrayvec::ArrayVec;
use palisade_board::text::before;
use palisade_board::{BusMaster, Interrupt, PlainDevice, Problem, Range};

use crate::controllers::Controllers;
use crate::error::Error;
use crate::tree::{Node, Tree, Visit};

/// Devices that are known to access no memory by themselves. Everything else
/// is taken for a bus master.
const HARMLESS: [&str; 18] = [
    "arm,pl011",
    "arm,pl031",
    "arm,pl061",
    "arm,sp804",
    "brcm,bcm2711-gpio",
    "brcm,bcm2711-rng200",
    "brcm,bcm2711-thermal",
    "brcm,bcm2835-aux",
    "brcm,bcm2835-aux-uart",
    "brcm,bcm2835-gpio",
    "brcm,bcm2835-i2c",
    "brcm,bcm2835-pwm",
    "brcm,bcm2835-spi",
    "brcm,bcm2835-system-timer",
    "brcm,bcm2711-i2c",
    "gpio-leds",
    "ns16550",
    "ns16550a",
];

impl<'a> Tree<'a> {
    /// The device at `path`, a full path with unit addresses. `gic` is the
    /// interrupt controller's phandle.
    ///
    /// # Errors
    /// There is no such node, it is disabled, or its registers or interrupts
    /// cannot be expressed; the error names node and property.
    pub fn device<'e>(&self, path: &'e str, gic: u32) -> Result<PlainDevice<'a>, Error<'e>>
    where
        'a: 'e,
    {
        let node = self.node(path).ok_or(Error::NoSuchNode(path))?;
        if !node.enabled() {
            return Err(Error::Disabled(path));
        }
        let mut registers = ArrayVec::new();
        node.registers(&mut |range| {
            let most = registers.capacity();
            registers.try_push(range).map_err(|_| node.too_many("register ranges", most))
        })?;
        let controllers = Controllers::new(self, gic);
        let mut interrupts: ArrayVec<Interrupt, 16> = ArrayVec::new();
        controllers.interrupts(&node, &mut |outcome| {
            let interrupt = outcome.map_err(|problem| node.problem("interrupts", problem))?;
            let most = interrupts.capacity();
            interrupts.try_push(interrupt).map_err(|_| node.too_many("interrupts", most))
        })?;
        let streams = streams(&node, &controllers)?;
        let (mut neighbours, mut line_sharers) = (ArrayVec::new(), ArrayVec::new());
        let own = node.path();
        self.visit(&mut |other| {
            if !other.enabled() {
                return Ok(Visit::Skip);
            }
            let mut shares = false;
            // What has no CPU address shares no page.
            let _ = other.registers(&mut |range| {
                shares |= registers.iter().any(|own: &Range| share_page(own, &range));
                Ok(())
            });
            let mut pulls = false;
            // What does not lead to the GIC pulls no line of it.
            let _ = controllers.interrupts(other, &mut |outcome| {
                let same = |line: Interrupt| interrupts.iter().any(|own| own.intid == line.intid);
                pulls |= outcome.is_ok_and(same);
                Ok(())
            });
            let path = other.path();
            if pulls && path != own {
                let most = line_sharers.capacity();
                line_sharers
                    .try_push(path)
                    .map_err(|_| node.too_many("devices on its lines", most))?;
            }
            if shares && path != own {
                let most = neighbours.capacity();
                neighbours
                    .try_push(path)
                    .map_err(|_| node.too_many("neighbours in its pages", most))?;
            }
            Ok(Visit::Children)
        })?;
        Ok(PlainDevice {
            path: own,
            compatible: node.property("compatible").unwrap_or_default(),
            registers,
            interrupts,
            bus_master: bus_master(&node),
            streams,
            neighbours,
            line_sharers,
        })
    }
}

/// The streams of a device, by its `iommus`.
///
/// # Errors
/// It names no IOMMU, or one whose StreamIDs have not one cell: what follows would be read at the
/// wrong place.
fn streams<'a>(
    node: &Node<'_, 'a>,
    controllers: &Controllers<'_, 'a>,
) -> Result<ArrayVec<(u32, u32), 4>, Error<'a>> {
    const NAME: &str = "iommus";
    let problem = |problem| node.problem(NAME, problem);
    let mut streams = ArrayVec::new();
    let mut cells = node.cells(NAME);
    while !cells.is_empty() {
        let smmu = cells.u32().ok_or(problem(Problem::Length))?;
        if controllers.cells_of(smmu, "#iommu-cells").map_err(problem)? != Some(1) {
            return Err(problem(Problem::Cells));
        }
        let stream = cells.u32().ok_or(problem(Problem::Length))?;
        let most = streams.capacity();
        streams.try_push((smmu, stream)).map_err(|_| node.too_many("streams", most))?;
    }
    Ok(streams)
}

/// Whether two ranges have a page of 4 KiB in common.
fn share_page(a: &Range, b: &Range) -> bool {
    let page = |address: u64| address >> 12;
    page(a.start()) <= page(b.end().wrapping_sub(1))
        && page(b.start()) <= page(a.end().wrapping_sub(1))
}

/// Whether `word`, which is not empty, occurs in a text.
#[inline(never)]
fn holds(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|window| window == word.as_bytes())
}

/// Why a node must be taken for a bus master, if it must.
fn bus_master(node: &Node<'_, '_>) -> Option<BusMaster> {
    let name = before(node.name(), b'@');
    let says =
        |word: &str| holds(name, word) || node.texts("compatible").any(|text| holds(text, word));
    let has = |property: &str| node.property(property).is_some();
    if has("interrupt-controller") && !says("gpio") && !says("pl061")
        || has("#iommu-cells")
        || node.depth() == 0
        || ["cpus", "memory", "psci", "chosen", "watchdog", "firmware"].contains(&name)
    {
        return Some(BusMaster::System);
    }
    // A controller that serves others' transfers has #dma-cells; one that only
    // has `dmas` is served, and its engine stays with the hypervisor.
    if has("#dma-cells") || says("dma") || says("pl330") {
        return Some(BusMaster::DmaEngine);
    }
    if says("pcie") || node.texts("device_type").any(|kind| kind == "pci") {
        return Some(BusMaster::Pci);
    }
    if says("usb") || says("xhci") || says("dwc2") {
        return Some(BusMaster::Usb);
    }
    if says("ethernet") || says("genet") {
        return Some(BusMaster::Ethernet);
    }
    if says("sdhci") || says("mmc") || says("sdhost") || says("emmc") {
        return Some(BusMaster::SdHost);
    }
    if has("#mbox-cells") || says("mbox") || says("mailbox") || says("vchiq") {
        return Some(BusMaster::Mailbox);
    }
    if says("virtio") {
        return Some(BusMaster::Virtio);
    }
    let media = ["v3d", "hvs", "hdmi", "codec", "csi", "dsi", "pixelvalve", "txp", "gpu", "vc4"];
    if media.iter().any(|word| says(word)) {
        return Some(BusMaster::Media);
    }
    if has("dma-ranges") || has("dma-coherent") || has("iommus") {
        return Some(BusMaster::DmaProperty);
    }
    if node.compatible(&HARMLESS) { None } else { Some(BusMaster::Unknown) }
}
