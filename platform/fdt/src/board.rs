//! The reader: a validated tree to a [`BoardInfo`].

use arrayvec::ArrayVec;
use palisade_board::text::before;
use palisade_board::{BoardInfo, Chosen, Range};

use crate::error::{Error, Problem};
use crate::tree::{Node, Tree};
use crate::{cpu, gic, memory, pcie, power, smmu, uart};

/// Reads the whole machine out of a tree.
///
/// # Errors
/// Memory, cores, interrupt controller or timer are missing, or a property that
/// describes a part of the machine Palisade uses cannot be right; the error
/// names node and property.
pub fn board<'a>(tree: &Tree<'a>) -> Result<BoardInfo<'a>, Error<'a>> {
    let (controller, gic_phandle) = gic::read(tree)?;
    let mut board = BoardInfo {
        model: root_text(tree, "model"),
        compatible: root_text(tree, "compatible"),
        memory: memory::ranges(tree)?,
        reserved: memory::reservations(tree)?,
        cpus: ArrayVec::new(),
        psci: cpu::conduit(tree)?,
        gic: controller,
        power: power::read(tree)?,
        timer: cpu::timer(tree, gic_phandle)?,
        uart: uart::read(tree, gic_phandle)?,
        pcie: ArrayVec::new(),
        smmus: ArrayVec::new(),
        chosen: chosen(tree)?,
    };
    cpu::cores(tree, &mut board.cpus)?;
    smmu::read(tree, gic_phandle, &mut board.smmus)?;
    pcie::read(tree, gic_phandle, &mut board.pcie)?;
    Ok(board)
}

/// The first text of a property of the root, empty where there is none.
fn root_text<'a>(tree: &Tree<'a>, name: &str) -> &'a str {
    tree.node("/").and_then(|root| root.texts(name).next()).unwrap_or_default()
}

fn chosen<'a>(tree: &Tree<'a>) -> Result<Chosen<'a>, Error<'a>> {
    let Some(node) = tree.node("/chosen") else { return Ok(Chosen::default()) };
    let bootargs = match node.property("bootargs") {
        // Some loaders leave the NUL out.
        Some(value) => match core::str::from_utf8(value) {
            Ok(text) => before(text, 0),
            Err(_) => return Err(node.problem("bootargs", Problem::Text)),
        },
        None => "",
    };
    let start = address(&node, "linux,initrd-start")?;
    let end = address(&node, "linux,initrd-end")?;
    let initrd = match (start, end) {
        (Some(start), Some(end)) if start != end => {
            let size = end.checked_sub(start);
            match size.and_then(|size| Range::new(start, size)) {
                Some(range) => Some(range),
                None => return Err(node.problem("linux,initrd-end", Problem::Range)),
            }
        }
        (None, Some(_)) => return Err(node.problem("linux,initrd-start", Problem::Missing)),
        (Some(_), None) => return Err(node.problem("linux,initrd-end", Problem::Missing)),
        _ => None,
    };
    Ok(Chosen { bootargs, initrd })
}

/// A property of one or two cells that is an address.
fn address<'a>(node: &Node<'_, 'a>, name: &'static str) -> Result<Option<u64>, Error<'a>> {
    match node.property(name).map(<[u8]>::len) {
        None => Ok(None),
        Some(4) => Ok(node.cells(name).number(1)),
        Some(8) => Ok(node.cells(name).number(2)),
        Some(_) => Err(node.problem(name, Problem::Length)),
    }
}
