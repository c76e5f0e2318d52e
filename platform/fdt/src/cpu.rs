//! `/cpus`, PSCI and the generic timer.

use arrayvec::ArrayVec;
use palisade_board::{Conduit, Cpu, EnableMethod, MAX_CPUS, Part, Problem, Reason, Timer};
use palisade_hal::PhysAddr;

use crate::controllers::Controllers;
use crate::error::Error;
use crate::notes::Notes;
use crate::tree::{Node, Tree, Visit, cell_count};

/// Affinity fields of MPIDR_EL1: Aff3 and Aff2..Aff0.
const AFFINITY: u64 = 0xff_00ff_ffff;
const RELEASE: &str = "cpu-release-addr";

/// The cores, in the tree's order.
///
/// # Errors
/// There are none.
pub(crate) fn cores<'a>(
    tree: &Tree<'a>,
    notes: &mut Notes<'a>,
) -> Result<ArrayVec<Cpu, MAX_CPUS>, Error<'a>> {
    let Some(parent) = tree.node("/cpus") else { return Err(Error::Missing("cpus")) };
    let address_cells =
        parent.chain().last().map_or(1, |node| cell_count(node, "#address-cells", 2));
    let inherited = parent.texts("enable-method").next();
    let mut cpus = ArrayVec::<Cpu, MAX_CPUS>::new();
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
        let mpidr = notes.keep(node, Part::Core, affinity(node, address_cells, &cpus));
        let Some(mpidr) = mpidr else { return Ok(Visit::Skip) };
        let enable = match node.texts("enable-method").next().or(inherited) {
            Some("psci") => EnableMethod::Psci,
            Some("spin-table") => match release(node) {
                Some(release) => EnableMethod::SpinTable { release },
                None => {
                    let problem = Problem::Value;
                    notes.add(node, Part::Core, Reason::Property { property: RELEASE, problem });
                    EnableMethod::None
                }
            },
            _ => EnableMethod::None,
        };
        if cpus.try_push(Cpu { mpidr, enable }).is_err() {
            notes.too_many(node, Part::Core, MAX_CPUS);
        }
        Ok(Visit::Skip)
    })?;
    if cpus.is_empty() { Err(Error::Missing("cpus")) } else { Ok(cpus) }
}

/// A core's affinity, which no other has.
fn affinity<'a>(node: &Node<'_, 'a>, cells: u32, others: &[Cpu]) -> Result<u64, Error<'a>> {
    let number = node.cells("reg").number(cells);
    let mpidr = number.ok_or_else(|| node.problem("reg", Problem::Length))?;
    if mpidr & !AFFINITY != 0 || others.iter().any(|cpu| cpu.mpidr == mpidr) {
        return Err(node.problem("reg", Problem::Value));
    }
    Ok(mpidr)
}

/// Where a core waits for its entry; `None` where firmware did not fill it in.
fn release(node: &Node<'_, '_>) -> Option<PhysAddr> {
    let release = match node.property(RELEASE).map(<[u8]>::len)? {
        4 => node.cells(RELEASE).number(1)?,
        8 => node.cells(RELEASE).number(2)?,
        _ => return None,
    };
    (release != 0 && release.is_multiple_of(8)).then(|| PhysAddr::new(release))
}

/// How PSCI is called. Version 0.1, which has no fixed function numbers, does not count. Needs no
/// heap, and nothing else of the tree: a machine can be turned off even where all else is refused.
pub fn conduit(tree: &Tree<'_>) -> Option<Conduit> {
    match psci(tree)?.texts("method").next()? {
        "smc" => Some(Conduit::Smc),
        "hvc" => Some(Conduit::Hvc),
        _ => None,
    }
}

/// The same, with a note where the method is unknown.
pub(crate) fn noted_conduit<'a>(tree: &Tree<'a>, notes: &mut Notes<'a>) -> Option<Conduit> {
    let found = conduit(tree);
    if let (None, Some(node)) = (found, psci(tree)) {
        let reason = Reason::Property { property: "method", problem: Problem::Value };
        notes.add(&node, Part::Psci, reason);
    }
    found
}

fn psci<'t, 'a>(tree: &'t Tree<'a>) -> Option<Node<'t, 'a>> {
    tree.find(&mut |node| node.compatible(&["arm,psci-1.0", "arm,psci-0.2"]))
}

/// The generic timer's interrupts.
///
/// # Errors
/// There is no generic timer, or one of the two that guests have is missing.
pub(crate) fn timer<'t, 'a>(
    tree: &'t Tree<'a>,
    controllers: &Controllers<'t, 'a>,
) -> Result<Timer, Error<'a>> {
    let found = tree.find(&mut |node| node.compatible(&["arm,armv8-timer", "arm,armv7-timer"]));
    let Some(node) = found else { return Err(Error::Missing("generic timer")) };
    // By name where there are names, else in the binding's order.
    let named = node.property("interrupt-names").is_some();
    let take = |name: &str, index: usize| {
        if named { controllers.named(&node, name) } else { controllers.interrupt(&node, index) }
    };
    let missing = || node.problem("interrupts", Problem::Missing);
    Ok(Timer {
        // Nobody uses these three: what cannot be read of them is not there.
        secure: take("sec-phys", 0).unwrap_or_default(),
        physical: take("phys", 1)?.ok_or_else(missing)?,
        virtual_: take("virt", 2)?.ok_or_else(missing)?,
        hypervisor: take("hyp-phys", 3).unwrap_or_default(),
        hypervisor_virtual: take("hyp-virt", 4).unwrap_or_default(),
        frequency: node.u32("clock-frequency"),
    })
}
