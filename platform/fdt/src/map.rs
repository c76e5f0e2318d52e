//! Lines of an `interrupt-map` (Devicetree Specification v0.4, section 2.4.3).

use alloc::rc::Rc;

use palisade_board::Problem;

use crate::controllers::{Controllers, take};
use crate::error::Error;
use crate::interrupt::Specifier;
use crate::tree::{Node, cell_count};

const NAME: &str = "interrupt-map";

/// A line: an interrupt of a child, and which one it is of the parent.
pub(crate) struct Line<'t, 'a> {
    /// The child's unit address, masked.
    pub(crate) unit: Specifier,
    /// The child's specifier, masked.
    pub(crate) specifier: Specifier,
    /// Which of their bits take part.
    mask: Specifier,
    /// Where it leads to.
    pub(crate) parent: Rc<Node<'t, 'a>>,
    /// The unit address there.
    pub(crate) parent_unit: Specifier,
    /// The specifier there.
    pub(crate) parent_specifier: Specifier,
}

impl Line<'_, '_> {
    /// Whether it is the line of this child's interrupt.
    pub(crate) fn serves(&self, unit: &[u32], specifier: &[u32]) -> bool {
        let wanted = unit.iter().chain(specifier);
        let masked = wanted.zip(&self.mask).map(|(cell, mask)| cell & mask);
        unit.len() == self.unit.len()
            && specifier.len() == self.specifier.len()
            && masked.eq(self.unit.iter().chain(&self.specifier).copied())
    }
}

/// Calls `each` for every line of a nexus.
///
/// # Errors
/// There is no map, or it cannot be divided into lines from some place on; or the first error of
/// `each`.
pub(crate) fn lines<'t, 'a>(
    controllers: &Controllers<'t, 'a>,
    node: &Node<'t, 'a>,
    each: &mut dyn FnMut(Line<'t, 'a>) -> Result<(), Error<'a>>,
) -> Result<(), Error<'a>> {
    let problem = |problem| node.problem(NAME, problem);
    if node.property(NAME).is_none() {
        return Err(problem(Problem::Missing));
    }
    let unit_cells = node.chain().last().map_or(0, |node| cell_count(node, "#address-cells", 2));
    let specifier_cells = node.u32("#interrupt-cells").ok_or(problem(Problem::Cells))?;
    let both = unit_cells.saturating_add(specifier_cells);
    // Absent, every bit takes part.
    let mut mask = match node.property("interrupt-map-mask") {
        Some(_) => take(&mut node.cells("interrupt-map-mask"), both),
        None => Some(core::iter::repeat_n(u32::MAX, both as usize).take(MOST).collect()),
    };
    let mask = mask.take().ok_or(problem(Problem::Length))?;
    let mut cells = node.cells(NAME);
    while !cells.is_empty() {
        let (Some(mut unit), Some(mut specifier), Some(phandle)) =
            (take(&mut cells, unit_cells), take(&mut cells, specifier_cells), cells.u32())
        else {
            return Err(problem(Problem::Length));
        };
        for (cell, mask) in unit.iter_mut().chain(&mut specifier).zip(&mask) {
            *cell &= mask;
        }
        let parent = controllers.get(phandle).ok_or(problem(Problem::Phandle))?;
        let parent_cells =
            parent.chain().last().map_or(0, |node| cell_count(node, "#address-cells", 0));
        let count = parent.u32("#interrupt-cells").ok_or(problem(Problem::Cells))?;
        let (Some(parent_unit), Some(parent_specifier)) =
            (take(&mut cells, parent_cells), take(&mut cells, count))
        else {
            return Err(problem(Problem::Length));
        };
        let mask = mask.clone();
        each(Line { unit, specifier, mask, parent, parent_unit, parent_specifier })?;
    }
    Ok(())
}

/// Most cells of a unit address and a specifier together.
const MOST: usize = crate::interrupt::CELLS;
