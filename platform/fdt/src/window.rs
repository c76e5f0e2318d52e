//! Address windows of PCIe hosts.

use arrayvec::ArrayVec;
use palisade_board::{MAX_WINDOWS, Part, Problem, Range, Space, Window};

use crate::error::Error;
use crate::notes::Notes;
use crate::tree::{Node, cell_count};

const NAME: &str = "ranges";

/// The windows of a host; one that cannot be used is left out.
pub(crate) fn read<'a>(
    node: &Node<'_, 'a>,
    notes: &mut Notes<'a>,
) -> ArrayVec<Window, MAX_WINDOWS> {
    let parent = node.above();
    let parent = parent.as_ref().and_then(|parent| parent.chain().last());
    let parent_cells = parent.map_or(2, |parent| cell_count(parent, "#address-cells", 2));
    let mut windows = ArrayVec::new();
    let mut cells = node.cells(NAME);
    while !cells.is_empty() {
        let (Some(space), Some(bus), Some(cpu), Some(size)) =
            (cells.u32(), cells.number(2), cells.number(parent_cells), cells.number(2))
        else {
            notes.add(node, Part::PcieWindow, node.problem(NAME, Problem::Length).reason());
            break;
        };
        let window = one(node, space, bus, cpu, size);
        let Some(Some(window)) = notes.keep(node, Part::PcieWindow, window) else { continue };
        if windows.try_push(window).is_err() {
            notes.too_many(node, Part::PcieWindow, MAX_WINDOWS);
        }
    }
    windows
}

/// A window; none for configuration space, which ECAM serves.
fn one<'a>(
    node: &Node<'_, 'a>,
    space: u32,
    bus: u64,
    cpu: u64,
    size: u64,
) -> Result<Option<Window>, Error<'a>> {
    let problem = |problem| node.problem(NAME, problem);
    let end = bus.checked_add(size).ok_or(problem(Problem::Range))?;
    // PCI Bus Binding to IEEE 1275, section 2.2.1.1: bits 25:24 of the first cell are the space,
    // bit 30 says prefetchable. Memory that is called 32-bit and reaches above 4 GiB is taken for
    // 64-bit memory: that is where it can be reached.
    let kind = match (space >> 24) & 3 {
        1 => Space::Io,
        2 if end <= 1 << 32 => Space::Memory32,
        2 | 3 => Space::Memory64,
        _ => return Ok(None),
    };
    let cpu = node.bus_address(cpu, size)?;
    let cpu = Range::new(cpu, size).ok_or(problem(Problem::Range))?;
    Ok(Some(Window { space: kind, prefetchable: space & (1 << 30) != 0, bus, cpu }))
}
