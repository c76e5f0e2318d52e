//! The interrupt controller's node.

use arrayvec::ArrayVec;
use palisade_board::{Gic, Its, Range, Version};

use crate::error::{Error, Problem};
use crate::tree::{Node, Tree};

const V2: [&str; 4] =
    ["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic", "arm,cortex-a9-gic"];
const V3: [&str; 1] = ["arm,gic-v3"];

/// The controller and its phandle.
pub(crate) fn read<'a>(tree: &Tree<'a>) -> Result<(Gic, u32), Error<'a>> {
    let found = tree.find(&mut |node| node.compatible(&V2) || node.compatible(&V3));
    let Some(node) = found else { return Err(Error::Missing("GICv2 or GICv3")) };
    let phandle = node.phandle();
    let version = if node.compatible(&V3) { v3(&node)? } else { v2(&node)? };
    let gic = Gic {
        distributor: node.first_register()?,
        version,
        // A GIC may be its own interrupt parent only.
        maintenance: node.interrupt(tree, phandle, 0)?,
        phandle,
    };
    Ok((gic, phandle))
}

fn v2<'a>(node: &Node<'_, 'a>) -> Result<Version, Error<'a>> {
    let Some(cpu) = node.register(1)? else {
        return Err(node.problem("reg", Problem::Missing));
    };
    let v2m = child(node, "arm,gic-v2m-frame").map(|frame| frame.first_register());
    Ok(Version::V2 {
        cpu,
        hypervisor: node.register(2)?,
        virtual_cpu: node.register(3)?,
        v2m: v2m.transpose()?,
    })
}

fn v3<'a>(node: &Node<'_, 'a>) -> Result<Version, Error<'a>> {
    let regions = node.u32("#redistributor-regions").unwrap_or(1);
    let mut redistributors = ArrayVec::new();
    let mut index = 0u32;
    node.registers(&mut |range: Range| {
        if (1..=regions).contains(&index) {
            redistributors.try_push(range).map_err(|_| node.too_many("redistributor regions"))?;
        }
        index = index.saturating_add(1);
        Ok(())
    })?;
    if u32::try_from(redistributors.len()) != Ok(regions) || regions == 0 {
        return Err(node.problem("#redistributor-regions", Problem::Value));
    }
    let stride = match node.property("redistributor-stride").map(<[u8]>::len) {
        None => None,
        Some(4) => node.cells("redistributor-stride").number(1),
        Some(_) => node.cells("redistributor-stride").number(2),
    };
    let its = match child(node, "arm,gic-v3-its") {
        Some(its) => Some(Its { registers: its.first_register()?, phandle: its.phandle() }),
        None => None,
    };
    Ok(Version::V3 { redistributors, stride, its })
}

/// The first enabled child of `node` that is compatible with `name`.
fn child<'b, 'a>(node: &Node<'b, 'a>, name: &str) -> Option<Node<'b, 'a>> {
    let mut found = None;
    let _ = node.children(&mut |child| {
        if child.enabled() && child.compatible(&[name]) {
            found = Some(child.clone());
            return Err(());
        }
        Ok(())
    });
    found
}
