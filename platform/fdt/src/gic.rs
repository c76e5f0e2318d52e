//! The interrupt controller's node.

use arrayvec::ArrayVec;
use palisade_board::{Gic, Its, MAX_ITS, MAX_REDISTRIBUTOR_REGIONS, Part, Problem, Range, Version};

use crate::controllers::Controllers;
use crate::error::Error;
use crate::notes::Notes;
use crate::tree::{Node, Tree};

const V2: [&str; 5] = [
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a7-gic",
    "arm,cortex-a9-gic",
    "qcom,msm-qgic2",
];
const V3: [&str; 1] = ["arm,gic-v3"];

/// The controller's node: the one that the root's interrupts belong to, else the first.
///
/// # Errors
/// There is none.
pub(crate) fn find<'t, 'a>(tree: &'t Tree<'a>) -> Result<Node<'t, 'a>, Error<'a>> {
    let known = |node: &Node<'t, 'a>| node.compatible(&V2) || node.compatible(&V3);
    let named = tree.node("/").and_then(|root| root.u32("interrupt-parent"));
    let root = named
        .filter(|phandle| *phandle != 0)
        .and_then(|phandle| tree.find(&mut |node| node.phandle() == phandle && known(node)));
    root.or_else(|| tree.find(&mut |node| known(node))).ok_or(Error::Missing("GICv2 or GICv3"))
}

/// The controller of this node.
///
/// # Errors
/// Its registers cannot be found.
pub(crate) fn read<'t, 'a>(
    node: &Node<'t, 'a>,
    controllers: &Controllers<'t, 'a>,
    notes: &mut Notes<'a>,
) -> Result<Gic, Error<'a>> {
    let version = if node.compatible(&V3) { v3(node, notes)? } else { v2(node, notes)? };
    let maintenance = controllers.interrupt(node, 0);
    Ok(Gic {
        distributor: node.first_register()?,
        version,
        maintenance: notes.keep(node, Part::Maintenance, maintenance).flatten(),
        phandle: node.phandle(),
    })
}

fn v2<'a>(node: &Node<'_, 'a>, notes: &mut Notes<'a>) -> Result<Version, Error<'a>> {
    let Some(cpu) = node.register(1)? else {
        return Err(node.problem("reg", Problem::Missing));
    };
    let mut v2m = None;
    children(node, "arm,gic-v2m-frame", &mut |frame| {
        if v2m.is_none() {
            v2m = notes.keep(frame, Part::Messages, frame.first_register());
        }
    });
    Ok(Version::V2 { cpu, hypervisor: node.register(2)?, virtual_cpu: node.register(3)?, v2m })
}

fn v3<'a>(node: &Node<'_, 'a>, notes: &mut Notes<'a>) -> Result<Version, Error<'a>> {
    let regions = node.u32("#redistributor-regions").unwrap_or(1);
    let mut redistributors = ArrayVec::<Range, MAX_REDISTRIBUTOR_REGIONS>::new();
    let mut index = 0u32;
    node.registers(&mut |range: Range| {
        if (1..=regions).contains(&index) && redistributors.try_push(range).is_err() {
            notes.too_many(node, Part::Redistributors, MAX_REDISTRIBUTOR_REGIONS);
        }
        index = index.saturating_add(1);
        Ok(())
    })?;
    // Ranges are the distributor's, then each region's.
    if index <= regions || regions == 0 {
        return Err(node.problem("#redistributor-regions", Problem::Value));
    }
    let stride = match node.property("redistributor-stride").map(<[u8]>::len) {
        None => None,
        Some(4) => node.cells("redistributor-stride").number(1),
        Some(_) => node.cells("redistributor-stride").number(2),
    };
    let mut its = ArrayVec::<Its, MAX_ITS>::new();
    children(node, "arm,gic-v3-its", &mut |child| {
        let registers = notes.keep(child, Part::Messages, child.first_register());
        let Some(registers) = registers else { return };
        if its.try_push(Its { registers, phandle: child.phandle() }).is_err() {
            notes.too_many(child, Part::Messages, MAX_ITS);
        }
    });
    Ok(Version::V3 { redistributors, stride, its })
}

/// Calls `each` for every enabled child of `node` that is compatible with `name`.
fn children<'b, 'a>(node: &Node<'b, 'a>, name: &str, each: &mut dyn FnMut(&Node<'b, 'a>)) {
    let _ = node.children::<()>(&mut |child| {
        if child.enabled() && child.compatible(&[name]) {
            each(child);
        }
        Ok(())
    });
}
