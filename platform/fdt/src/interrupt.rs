//! Interrupt specifiers of the GIC: type, number, flags.

use palisade_board::{Interrupt, Trigger};

use crate::cells::Cells;
use crate::error::{Error, Problem};
use crate::tree::{Node, Tree, cell_count};

/// Decodes a three-cell GIC specifier.
pub(crate) fn specifier(kind: u32, number: u32, flags: u32) -> Option<Interrupt> {
    // SPIs are INTID 32..=1019, PPIs 16..=31 (IHI 0069, 2.2).
    let intid = match kind {
        0 if number < 988 => number.checked_add(32)?,
        1 if number < 16 => number.checked_add(16)?,
        _ => return None,
    };
    let trigger = match flags & 0xf {
        1 | 2 => Trigger::Edge,
        4 | 8 => Trigger::Level,
        _ => return None,
    };
    Some(Interrupt { intid, trigger })
}

/// Takes one specifier of a controller with `count` cells. Only the GIC's three
/// (or four, the last one a PPI partition) are understood.
pub(crate) fn take(cells: &mut Cells<'_>, count: u32) -> Option<Interrupt> {
    if !(3..=4).contains(&count) {
        return None;
    }
    let (kind, number, flags) = (cells.u32()?, cells.u32()?, cells.u32()?);
    for _ in 3..count {
        cells.u32()?;
    }
    specifier(kind, number, flags)
}

impl<'a> Node<'_, 'a> {
    /// The phandle that `interrupts` refers to: the nearest `interrupt-parent`.
    fn interrupt_parent(&self) -> Option<u32> {
        self.chain().iter().rev().find_map(|node| {
            let property = node.property("interrupt-parent")?;
            Cells::new(property.value).u32()
        })
    }

    /// Calls `each` with every interrupt, in order.
    ///
    /// # Errors
    /// One of them does not lead to the GIC (phandle `gic`), or the property
    /// does not fit its cells; or the first error of `each`.
    pub fn interrupts(
        &self,
        tree: &Tree<'a>,
        gic: u32,
        each: &mut dyn FnMut(Interrupt) -> Result<(), Error<'a>>,
    ) -> Result<(), Error<'a>> {
        let count_of = |phandle: u32| {
            tree.phandle(phandle).map(|node| cell_count(&node, "#interrupt-cells", 0))
        };
        if let Some(value) = self.property("interrupts-extended") {
            const NAME: &str = "interrupts-extended";
            let mut cells = Cells::new(value);
            while let Some(parent) = cells.u32() {
                let count = count_of(parent).ok_or_else(|| self.problem(NAME, Problem::Phandle))?;
                if parent != gic {
                    return Err(self.problem(NAME, Problem::Interrupt));
                }
                let interrupt = take(&mut cells, count);
                each(interrupt.ok_or_else(|| self.problem(NAME, Problem::Interrupt))?)?;
            }
            return Ok(());
        }
        const NAME: &str = "interrupts";
        let Some(value) = self.property(NAME) else { return Ok(()) };
        let parent = self.interrupt_parent().ok_or_else(|| self.problem(NAME, Problem::Phandle))?;
        if parent != gic {
            return Err(self.problem(NAME, Problem::Interrupt));
        }
        let count = count_of(parent).ok_or_else(|| self.problem(NAME, Problem::Phandle))?;
        let mut cells = Cells::new(value);
        while !cells.is_empty() {
            let interrupt = take(&mut cells, count);
            each(interrupt.ok_or_else(|| self.problem(NAME, Problem::Interrupt))?)?;
        }
        Ok(())
    }

    /// The `index`-th interrupt; `None` where there are fewer.
    ///
    /// # Errors
    /// As [`interrupts`](Self::interrupts).
    pub fn interrupt(
        &self,
        tree: &Tree<'a>,
        gic: u32,
        index: usize,
    ) -> Result<Option<Interrupt>, Error<'a>> {
        let mut at = 0usize;
        let mut found = None;
        self.interrupts(tree, gic, &mut |interrupt| {
            if at == index {
                found = Some(interrupt);
            }
            at = at.saturating_add(1);
            Ok(())
        })?;
        Ok(found)
    }

    /// The interrupt that `interrupt-names` calls `name`.
    ///
    /// # Errors
    /// As [`interrupts`](Self::interrupts).
    pub fn named_interrupt(
        &self,
        tree: &Tree<'a>,
        gic: u32,
        name: &str,
    ) -> Result<Option<Interrupt>, Error<'a>> {
        match self.texts("interrupt-names").position(|text| text == name) {
            Some(index) => self.interrupt(tree, gic, index),
            None => Ok(None),
        }
    }
}
