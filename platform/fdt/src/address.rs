//! `reg` and `ranges`: from a node's address to the CPU's.
//!
//! Devicetree Specification v0.4, sections 2.3.6 and 2.3.8.

use palisade_board::{Problem, Range};

use crate::cells::Cells;
use crate::error::Error;
use crate::tree::{Node, cell_count};

const REG: &str = "reg";

impl<'a> Node<'_, 'a> {
    /// Calls `each` with every range of `reg`, in CPU addresses. Ranges of size
    /// zero are left out.
    ///
    /// # Errors
    /// The property does not fit its cells, or no CPU address belongs to it;
    /// or the first error of `each`.
    pub fn registers(
        &self,
        each: &mut dyn FnMut(Range) -> Result<(), Error<'a>>,
    ) -> Result<(), Error<'a>> {
        let chain = self.chain();
        let Some(parent) = chain.len().checked_sub(2).and_then(|index| chain.get(index)) else {
            return Ok(());
        };
        let address_cells = cell_count(parent, "#address-cells", 2);
        let size_cells = cell_count(parent, "#size-cells", 1);
        let mut cells = self.cells(REG);
        while !cells.is_empty() {
            let (Some(address), Some(size)) =
                (cells.number(address_cells), cells.number(size_cells))
            else {
                return Err(self.problem(REG, Problem::Length));
            };
            if address_cells == 0 {
                return Err(self.problem(REG, Problem::Length));
            }
            if size == 0 {
                continue;
            }
            let base = self.translate(address, size, chain.len().saturating_sub(2))?;
            match Range::new(base, size) {
                Some(range) => each(range)?,
                None => return Err(self.problem(REG, Problem::Range)),
            }
        }
        Ok(())
    }

    /// The `index`-th range of `reg`, in CPU addresses.
    ///
    /// # Errors
    /// As [`registers`](Self::registers).
    pub fn register(&self, index: usize) -> Result<Option<Range>, Error<'a>> {
        let mut left = index;
        let mut found = None;
        self.registers(&mut |range| {
            match left.checked_sub(1) {
                Some(next) => left = next,
                None if found.is_none() => found = Some(range),
                None => {}
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The first range of `reg`, which must exist.
    pub(crate) fn first_register(&self) -> Result<Range, Error<'a>> {
        self.register(0)?.ok_or_else(|| self.problem(REG, Problem::Missing))
    }

    /// Translates an address of the bus on which the node is to the CPU's.
    pub(crate) fn bus_address(&self, address: u64, size: u64) -> Result<u64, Error<'a>> {
        self.translate(address, size, self.chain().len().saturating_sub(2))
    }

    /// Translates an address in the space of `chain[bus]` to the CPU's.
    fn translate(&self, address: u64, size: u64, bus: usize) -> Result<u64, Error<'a>> {
        let chain = self.chain();
        let mut address = address;
        for index in (1..=bus).rev() {
            let (Some(node), Some(above)) = (chain.get(index), chain.get(index.wrapping_sub(1)))
            else {
                break;
            };
            let Some(ranges) = node.property("ranges") else {
                return Err(self.problem(REG, Problem::Untranslatable));
            };
            if ranges.value.is_empty() {
                continue;
            }
            let child_cells = cell_count(node, "#address-cells", 2);
            let size_cells = cell_count(node, "#size-cells", 1);
            let above_cells = cell_count(above, "#address-cells", 2);
            let mut cells = Cells::new(ranges.value);
            let mut translated = None;
            while translated.is_none() && !cells.is_empty() {
                let (Some(child), Some(parent), Some(length)) = (
                    cells.number(child_cells),
                    cells.number(above_cells),
                    cells.number(size_cells),
                ) else {
                    return Err(self.problem("ranges", Problem::Length));
                };
                if child_cells == 0 || size_cells == 0 {
                    return Err(self.problem("ranges", Problem::Length));
                }
                translated = address
                    .checked_sub(child)
                    .filter(|offset| offset.checked_add(size).is_some_and(|end| end <= length))
                    .and_then(|offset| parent.checked_add(offset));
            }
            match translated {
                Some(translated) => address = translated,
                None => return Err(self.problem(REG, Problem::Untranslatable)),
            }
        }
        Ok(address)
    }
}
