//! PCIe hosts with ECAM.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use palisade_board::{
    InterruptMapEntry, MAX_INTERRUPT_MAP, MAX_PCIE, Part, PcieHost, Problem, Reason,
};

use crate::controllers::Controllers;
use crate::error::Error;
use crate::notes::Notes;
use crate::tree::{Node, Tree, Visit};
use crate::{id_map, map, window};

const SEGMENT: &str = "linux,pci-domain";

/// Every enabled host with generic ECAM that can be read.
pub(crate) fn read<'t, 'a>(
    tree: &'t Tree<'a>,
    controllers: &Controllers<'t, 'a>,
    notes: &mut Notes<'a>,
) -> Vec<PcieHost> {
    let mut hosts: Vec<PcieHost> = Vec::new();
    // Devicetree's binding of /chosen: what firmware has set up stays as it is.
    let chosen = tree.node("/chosen");
    let kept = chosen.and_then(|node| node.u32("linux,pci-probe-only")).is_some_and(|on| on != 0);
    // Segments that are said come first: the others take what is left.
    for said in [true, false] {
        let _ = tree.visit(&mut |node| {
            if !node.enabled() {
                return Ok(Visit::Skip);
            }
            if !node.compatible(&["pci-host-ecam-generic"]) {
                return Ok(Visit::Children);
            }
            if node.property(SEGMENT).is_some() != said {
                return Ok(Visit::Skip);
            }
            let segment = segment(node, &hosts);
            let host = segment.and_then(|segment| host(node, segment, kept, controllers, notes));
            if let Some(host) = notes.keep(node, Part::PcieHost, host) {
                notes.push(node, Part::PcieHost, &mut hosts, MAX_PCIE, host);
            }
            Ok(Visit::Skip)
        });
    }
    hosts
}

/// The host's segment: every function's number begins with it, so that no two hosts may share it.
fn segment<'a>(node: &Node<'_, 'a>, others: &[PcieHost]) -> Result<u16, Error<'a>> {
    let taken = |segment: &u16| others.iter().any(|host| host.segment == *segment);
    let segment = match node.u32(SEGMENT) {
        Some(segment) => u16::try_from(segment).ok().filter(|segment| !taken(segment)),
        None => (0..=u16::MAX).find(|segment| !taken(segment)),
    };
    segment.ok_or_else(|| node.problem(SEGMENT, Problem::Value))
}

fn host<'t, 'a>(
    node: &Node<'t, 'a>,
    segment: u16,
    kept: bool,
    controllers: &Controllers<'t, 'a>,
    notes: &mut Notes<'a>,
) -> Result<PcieHost, Error<'a>> {
    let ecam = node.first_register()?;
    let (first, last) = match node.property("bus-range") {
        None => (0, 0xff),
        Some(_) => {
            let mut cells = node.cells("bus-range");
            match (cells.u32(), cells.u32()) {
                (Some(first), Some(last)) if first <= last && last <= 0xff => (first, last),
                _ => return Err(node.problem("bus-range", Problem::Value)),
            }
        }
    };
    // 1 MiB of configuration space per bus.
    let Some(buses) = u32::try_from((ecam.size() >> 20).min(256)).ok().filter(|buses| *buses > 0)
    else {
        return Err(node.problem("reg", Problem::Range));
    };
    let last = last.min(first.saturating_add(buses.saturating_sub(1)));
    let mut mask = node.cells("interrupt-map-mask");
    let unit_mask = mask.u32();
    let pin_mask = mask.number(2).and_then(|_| mask.u32());
    let streams = id_map::read(node, &id_map::STREAMS, controllers);
    let messages = id_map::read(node, &id_map::MESSAGES, controllers);
    let messages = messages.map(|map| match map.entries.is_empty() {
        true => id_map::parent(node).unwrap_or(map),
        false => map,
    });
    Ok(PcieHost {
        ecam,
        segment,
        first_bus: u8::try_from(first).unwrap_or(0),
        last_bus: u8::try_from(last).unwrap_or(0),
        windows: window::read(node, notes),
        interrupt_mask: (unit_mask.unwrap_or(u32::MAX), pin_mask.unwrap_or(u32::MAX)),
        interrupt_map: wires(node, controllers, notes),
        iommu_map: notes.keep(node, Part::PcieStreams, streams).unwrap_or_default(),
        msi_map: notes.keep(node, Part::PcieMessages, messages).unwrap_or_default(),
        coherent: node.coherent(),
        keep: kept,
    })
}

/// The INTx wires that lead to the GIC, directly or through a nexus.
fn wires<'t, 'a>(
    node: &Node<'t, 'a>,
    controllers: &Controllers<'t, 'a>,
    notes: &mut Notes<'a>,
) -> ArrayVec<InterruptMapEntry, MAX_INTERRUPT_MAP> {
    let mut wires = ArrayVec::new();
    if node.property("interrupt-map").is_none() {
        return wires;
    }
    let mut elsewhere = false;
    let read = map::lines(controllers, node, &mut |line| {
        // PCI Bus Binding to IEEE 1275, section 2.2.1.1: three cells of address, one of pin.
        let (&[unit, _, _], &[pin]) = (line.unit.as_slice(), line.specifier.as_slice()) else {
            return Err(node.problem("interrupt-map", Problem::Cells));
        };
        let to = controllers.resolve(&line.parent, &line.parent_unit, &line.parent_specifier);
        match to {
            None => elsewhere = true,
            Some(interrupt) => wires
                .try_push(InterruptMapEntry { unit, pin, interrupt })
                .map_err(|_| node.too_many("interrupt-map lines", MAX_INTERRUPT_MAP))?,
        }
        Ok(())
    });
    notes.keep(node, Part::PcieInterrupts, read);
    if elsewhere {
        let problem = Problem::Interrupt;
        let reason = Reason::Property { property: "interrupt-map", problem };
        notes.add(node, Part::PcieInterrupts, reason);
    }
    wires
}
