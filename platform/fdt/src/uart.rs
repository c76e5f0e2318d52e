//! The console: the PL011 that `stdout-path` names, else the first one.

use palisade_board::Uart;
use palisade_board::text::before;

use crate::cells::Cells;
use crate::error::Error;
use crate::tree::{Node, Tree, cell_count};

const PL011: [&str; 1] = ["arm,pl011"];

/// The console.
pub(crate) fn read<'a>(tree: &Tree<'a>, gic: u32) -> Result<Option<Uart>, Error<'a>> {
    let named = stdout(tree).filter(|node| node.enabled() && node.compatible(&PL011));
    let Some(node) = named.or_else(|| tree.find(&mut |node| node.compatible(&PL011))) else {
        return Ok(None);
    };
    Ok(Some(Uart {
        registers: node.first_register()?,
        // Output needs none: one that is not the GIC's is no reason to stay dark.
        interrupt: node.interrupt(tree, gic, 0).unwrap_or_default(),
        clock: clock(tree, &node),
        baud: node.u32("current-speed"),
    }))
}

/// The node that `/chosen` names as standard output, by path or alias.
fn stdout<'t, 'a>(tree: &'t Tree<'a>) -> Option<Node<'t, 'a>> {
    let chosen = tree.node("/chosen")?;
    let value = chosen.texts("stdout-path").next()?;
    let path = before(value, b':');
    if path.starts_with('/') {
        return tree.node(path);
    }
    tree.node(tree.node("/aliases")?.texts(path).next()?)
}

/// UARTCLK in Hz, where a fixed clock or the node itself says it.
fn clock(tree: &Tree<'_>, node: &Node<'_, '_>) -> Option<u32> {
    if let Some(frequency) = node.u32("clock-frequency") {
        return Some(frequency);
    }
    let wanted = node.texts("clock-names").position(|name| name == "uartclk").unwrap_or(0);
    let mut cells = node.cells("clocks");
    let mut index = 0usize;
    while let Some(phandle) = cells.u32() {
        let provider = tree.phandle(phandle)?;
        if index == wanted {
            let frequency = provider.property("clock-frequency")?;
            return Cells::new(frequency.value).u32();
        }
        for _ in 0..cell_count(&provider, "#clock-cells", 0) {
            cells.u32()?;
        }
        index = index.saturating_add(1);
    }
    None
}
