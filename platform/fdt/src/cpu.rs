//! `/cpus`, PSCI and the generic timer.

use arrayvec::ArrayVec;
use palisade_board::{Conduit, Cpu, EnableMethod, MAX_CPUS, Timer};
use palisade_hal::PhysAddr;

use crate::error::{Error, Problem};
use crate::tree::{Tree, Visit, cell_count};

/// Affinity fields of MPIDR_EL1: Aff3 and Aff2..Aff0.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// The cores, in the tree's order.
pub(crate) fn cores<'a>(
    tree: &Tree<'a>,
    cpus: &mut ArrayVec<Cpu, MAX_CPUS>,
) -> Result<(), Error<'a>> {
    let Some(parent) = tree.node("/cpus") else { return Err(Error::Missing("cpus")) };
    let address_cells =
        parent.chain().last().map_or(1, |node| cell_count(node, "#address-cells", 2));
    let inherited = parent.texts("enable-method").next();
    tree.visit(&mut |node| {
        match (node.depth(), node.name()) {
            (0, _) | (1, "cpus") => return Ok(Visit::Children),
            (2, name) if name.starts_with("cpu@") => {}
            _ => return Ok(Visit::Skip),
        }
        // "disabled" means not running yet; only a failed core is no core.
        if node.parent_name() != "cpus"
            || node.texts("status").any(|status| status.starts_with("fail"))
        {
            return Ok(Visit::Skip);
        }
        let Some(mpidr) = node.cells("reg").number(address_cells) else {
            return Err(node.problem("reg", Problem::Length));
        };
        if mpidr & !AFFINITY != 0 || cpus.iter().any(|cpu| cpu.mpidr == mpidr) {
            return Err(node.problem("reg", Problem::Value));
        }
        let enable = match node.texts("enable-method").next().or(inherited) {
            Some("psci") => EnableMethod::Psci,
            Some("spin-table") => {
                const NAME: &str = "cpu-release-addr";
                let length = node.property(NAME).map_or(0, <[u8]>::len);
                let release = match length {
                    4 => node.cells(NAME).number(1),
                    8 => node.cells(NAME).number(2),
                    _ => None,
                };
                match release {
                    Some(release) if release != 0 && release.is_multiple_of(8) => {
                        EnableMethod::SpinTable { release: PhysAddr::new(release) }
                    }
                    _ => return Err(node.problem(NAME, Problem::Value)),
                }
            }
            _ => EnableMethod::None,
        };
        cpus.try_push(Cpu { mpidr, enable }).map_err(|_| node.too_many("cores"))?;
        Ok(Visit::Skip)
    })?;
    if cpus.is_empty() { Err(Error::Missing("cpus")) } else { Ok(()) }
}

/// How PSCI is called. Version 0.1, which has no fixed function numbers, does
/// not count.
pub(crate) fn conduit<'a>(tree: &Tree<'a>) -> Result<Option<Conduit>, Error<'a>> {
    let found = tree.find(&mut |node| node.compatible(&["arm,psci-1.0", "arm,psci-0.2"]));
    let Some(node) = found else { return Ok(None) };
    match node.text("method")? {
        Some("smc") => Ok(Some(Conduit::Smc)),
        Some("hvc") => Ok(Some(Conduit::Hvc)),
        _ => Err(node.problem("method", Problem::Value)),
    }
}

/// The generic timer's interrupts.
pub(crate) fn timer<'a>(tree: &Tree<'a>, gic: u32) -> Result<Timer, Error<'a>> {
    let found = tree.find(&mut |node| node.compatible(&["arm,armv8-timer", "arm,armv7-timer"]));
    let Some(node) = found else { return Err(Error::Missing("generic timer")) };
    // By name where there are names, else in the binding's order.
    let named = node.property("interrupt-names").is_some();
    let take = |name: &str, index: usize| {
        if named { node.named_interrupt(tree, gic, name) } else { node.interrupt(tree, gic, index) }
    };
    let missing = || node.problem("interrupts", Problem::Missing);
    Ok(Timer {
        secure: take("sec-phys", 0)?.ok_or_else(missing)?,
        physical: take("phys", 1)?.ok_or_else(missing)?,
        virtual_: take("virt", 2)?.ok_or_else(missing)?,
        hypervisor: take("hyp-phys", 3)?.ok_or_else(missing)?,
        hypervisor_virtual: take("hyp-virt", 4)?,
        frequency: node.u32("clock-frequency"),
    })
}
