//! Nodes that others name by phandle: interrupt controllers, nexuses, IOMMUs, translation
//! services. Each is looked up once, so that reading a board is linear in its tree.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use palisade_board::{Interrupt, Problem};

use crate::cells::Cells;
use crate::error::Error;
use crate::interrupt::{Specifier, specifier};
use crate::map;
use crate::tree::{Node, Tree, Visit, cell_count};

/// Most different nodes that a board's parts may name.
const MOST: usize = 1024;
/// Most nexuses between a device and the GIC.
const HOPS: usize = 8;

/// Whether one interrupt of a node leads to the GIC, and as which.
pub(crate) type Outcome = Result<Interrupt, Problem>;

/// The nodes that were named so far.
pub(crate) struct Controllers<'t, 'a> {
    tree: &'t Tree<'a>,
    gic: u32,
    known: RefCell<Vec<(u32, Option<Rc<Node<'t, 'a>>>)>>,
}

impl<'t, 'a> Controllers<'t, 'a> {
    /// None is known. `gic` is the interrupt controller's phandle.
    pub(crate) const fn new(tree: &'t Tree<'a>, gic: u32) -> Self {
        Self { tree, gic, known: RefCell::new(Vec::new()) }
    }

    /// The node that has this phandle; `None` also beyond [`MOST`] different ones.
    pub(crate) fn get(&self, phandle: u32) -> Option<Rc<Node<'t, 'a>>> {
        let mut known = self.known.borrow_mut();
        if let Some((_, node)) = known.iter().find(|(known, _)| *known == phandle) {
            return node.clone();
        }
        if known.len() >= MOST {
            return None;
        }
        let node = find(self.tree, phandle).map(Rc::new);
        known.push((phandle, node.clone()));
        node
    }

    /// How many cells follow the phandle of a node, as its property `name` says.
    pub(crate) fn cells_of(&self, phandle: u32, name: &str) -> Result<Option<u32>, Problem> {
        Ok(self.get(phandle).ok_or(Problem::Phandle)?.u32(name))
    }

    /// The node that a node's `interrupts` are those of: what the nearest `interrupt-parent` at
    /// or above it names, or the nearest node above that has interrupts itself (section 2.4).
    fn parent_of(&self, node: &Node<'t, 'a>) -> Option<Rc<Node<'t, 'a>>> {
        let mut at = node.clone();
        loop {
            if let Some(phandle) = at.u32("interrupt-parent") {
                return self.get(phandle);
            }
            at = at.above()?;
            if at.property("#interrupt-cells").is_some() {
                return Some(Rc::new(at));
            }
        }
    }

    /// Follows a specifier from `parent` to the GIC, through whatever nexuses stand between.
    pub(crate) fn resolve(
        &self,
        parent: &Node<'t, 'a>,
        unit: &[u32],
        wanted: &[u32],
    ) -> Option<Interrupt> {
        let mut node = parent.clone();
        let mut unit = Specifier::try_from(unit).ok()?;
        let mut wanted = Specifier::try_from(wanted).ok()?;
        for _ in 0..HOPS {
            if self.gic != 0 && node.phandle() == self.gic {
                return specifier(&wanted);
            }
            let mut hit = None;
            map::lines(self, &node, &mut |line| {
                if hit.is_none() && line.serves(&unit, &wanted) {
                    hit = Some(line);
                }
                Ok(())
            })
            .ok()?;
            let line = hit?;
            node = Node::clone(&line.parent);
            (unit, wanted) = (line.parent_unit, line.parent_specifier);
        }
        None
    }

    /// Calls `each` with every interrupt of `node`, in order: what it is at the GIC, or why it is
    /// none.
    ///
    /// # Errors
    /// The property cannot be divided into interrupts from some place on; or the first error of
    /// `each`.
    pub(crate) fn interrupts(
        &self,
        node: &Node<'t, 'a>,
        each: &mut dyn FnMut(Outcome) -> Result<(), Error<'a>>,
    ) -> Result<(), Error<'a>> {
        let unit = unit_of(node);
        let mut one = |parent: &Node<'t, 'a>, cells: &mut Cells<'_>, name: &'static str| {
            let count = parent.u32("#interrupt-cells").unwrap_or(0);
            let wanted = take(cells, count);
            let Some(wanted) = wanted.filter(|cells| !cells.is_empty()) else {
                return Err(node.problem(name, Problem::Length));
            };
            let length = cell_count_of(parent);
            let unit = unit.get(..length.min(unit.len())).unwrap_or_default();
            each(self.resolve(parent, unit, &wanted).ok_or(Problem::Interrupt))
        };
        if let Some(value) = node.property("interrupts-extended") {
            const NAME: &str = "interrupts-extended";
            let mut cells = Cells::new(value);
            while let Some(phandle) = cells.u32() {
                match self.get(phandle) {
                    Some(parent) => one(&parent, &mut cells, NAME)?,
                    None => return Err(node.problem(NAME, Problem::Phandle)),
                }
            }
            return Ok(());
        }
        const NAME: &str = "interrupts";
        let Some(value) = node.property(NAME) else { return Ok(()) };
        let Some(parent) = self.parent_of(node) else {
            return Err(node.problem(NAME, Problem::Phandle));
        };
        let mut cells = Cells::new(value);
        while !cells.is_empty() {
            one(&parent, &mut cells, NAME)?;
        }
        Ok(())
    }

    /// The `index`-th interrupt; `None` where there are fewer.
    ///
    /// # Errors
    /// It does not lead to the GIC, or cannot be told from the others.
    pub(crate) fn interrupt(
        &self,
        node: &Node<'t, 'a>,
        index: usize,
    ) -> Result<Option<Interrupt>, Error<'a>> {
        let mut at = 0usize;
        let mut found = None;
        let all = self.interrupts(node, &mut |outcome| {
            if at == index {
                found = Some(outcome);
            }
            at = at.saturating_add(1);
            Ok(())
        });
        match found {
            Some(Ok(interrupt)) => Ok(Some(interrupt)),
            Some(Err(problem)) => Err(node.problem("interrupts", problem)),
            None => all.map(|()| None),
        }
    }

    /// The interrupt that `interrupt-names` calls `name`.
    ///
    /// # Errors
    /// As [`interrupt`](Self::interrupt).
    pub(crate) fn named(
        &self,
        node: &Node<'t, 'a>,
        name: &str,
    ) -> Result<Option<Interrupt>, Error<'a>> {
        match node.texts("interrupt-names").position(|text| text == name) {
            Some(index) => self.interrupt(node, index),
            None => Ok(None),
        }
    }
}

/// The node with this phandle, disabled ones included, with its ancestors.
pub(crate) fn find<'t, 'a>(tree: &'t Tree<'a>, phandle: u32) -> Option<Node<'t, 'a>> {
    let mut found = None;
    let _ = tree.visit(&mut |node| {
        // 0 is no phandle: nodes without one have it.
        if phandle == 0 || node.phandle() != phandle {
            return Ok(Visit::Children);
        }
        found = Some(node.clone());
        Ok(Visit::Stop)
    });
    found
}

/// The cells of a node's own unit address, as `reg` begins with it.
fn unit_of(node: &Node<'_, '_>) -> Specifier {
    let mut cells = node.cells("reg");
    core::iter::from_fn(|| cells.u32()).take(4).collect()
}

/// `#address-cells` of an interrupt parent; 0 where it has none.
fn cell_count_of(parent: &Node<'_, '_>) -> usize {
    parent.chain().last().map_or(0, |node| cell_count(node, "#address-cells", 0)) as usize
}

/// Takes `count` cells.
pub(crate) fn take(cells: &mut Cells<'_>, count: u32) -> Option<Specifier> {
    let mut taken = Specifier::new();
    for _ in 0..count {
        taken.try_push(cells.u32()?).ok()?;
    }
    Some(taken)
}
