//! The reader: a validated tree to a [`BoardInfo`].

use alloc::vec::Vec;

use palisade_board::text::before;
use palisade_board::{BoardInfo, Chosen, Part, Problem, Range};

use crate::controllers::Controllers;
use crate::error::Error;
use crate::notes::Notes;
use crate::tree::{Node, Tree};
use crate::{cpu, gic, memory, pcie, power, reserved, smmu, uart};

/// Reads the whole machine out of a tree.
///
/// What cannot be read and nobody needs is left out, with a note.
///
/// # Errors
/// Memory, cores, interrupt controller or timer are missing; what is reserved of the memory cannot
/// be read; or there are more SMMUs than can be made to abort. The error names node and property.
pub fn board<'a>(tree: &Tree<'a>) -> Result<BoardInfo<'a>, Error<'a>> {
    let gic_node = gic::find(tree)?;
    let controllers = Controllers::new(tree, gic_node.phandle());
    let mut notes = Notes::default();
    let mut board = BoardInfo {
        model: root_text(tree, "model"),
        compatible: root_text(tree, "compatible"),
        memory: memory::ranges(tree, &mut notes)?,
        reserved: reserved::reservations(tree)?,
        cpus: cpu::cores(tree, &mut notes)?,
        psci: cpu::noted_conduit(tree, &mut notes),
        gic: gic::read(&gic_node, &controllers, &mut notes)?,
        power: power::read(tree, &mut notes),
        timer: cpu::timer(tree, &controllers)?,
        uart: uart::read(tree, &controllers, &mut notes),
        pcie: pcie::read(tree, &controllers, &mut notes),
        smmus: smmu::read(tree, &controllers, &mut notes)?,
        chosen: chosen(tree, &mut notes),
        notes: Vec::new(),
        more_notes: 0,
    };
    (board.notes, board.more_notes) = (notes.list, notes.more);
    Ok(board)
}

/// The first text of a property of the root, empty where there is none.
fn root_text<'a>(tree: &Tree<'a>, name: &str) -> &'a str {
    tree.node("/").and_then(|root| root.texts(name).next()).unwrap_or_default()
}

fn chosen<'a>(tree: &Tree<'a>, notes: &mut Notes<'a>) -> Chosen<'a> {
    let Some(node) = tree.node("/chosen") else { return Chosen::default() };
    let bootargs = notes.keep(&node, Part::Arguments, bootargs_of(&node)).unwrap_or_default();
    let initrd = notes.keep(&node, Part::Bundle, initrd(&node)).flatten();
    Chosen { bootargs, initrd }
}

/// The command line, empty where there is none or it is no text. Needs no heap, and nothing else
/// of the tree.
pub fn bootargs<'a>(tree: &Tree<'a>) -> &'a str {
    tree.node("/chosen").and_then(|node| bootargs_of(&node).ok()).unwrap_or_default()
}

fn bootargs_of<'a>(node: &Node<'_, 'a>) -> Result<&'a str, Error<'a>> {
    // Some loaders leave the NUL out.
    let text = core::str::from_utf8(node.property("bootargs").unwrap_or_default());
    text.map(|text| before(text, 0)).map_err(|_| node.problem("bootargs", Problem::Text))
}

/// Where the boot loader left the bundle.
fn initrd<'a>(node: &Node<'_, 'a>) -> Result<Option<Range>, Error<'a>> {
    let start = address(node, "linux,initrd-start")?;
    let end = address(node, "linux,initrd-end")?;
    match (start, end) {
        (Some(start), Some(end)) if start != end => {
            let range = end.checked_sub(start).and_then(|size| Range::new(start, size));
            range.map(Some).ok_or_else(|| node.problem("linux,initrd-end", Problem::Range))
        }
        (None, Some(_)) => Err(node.problem("linux,initrd-start", Problem::Missing)),
        (Some(_), None) => Err(node.problem("linux,initrd-end", Problem::Missing)),
        _ => Ok(None),
    }
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
