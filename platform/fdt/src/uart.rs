//! The console: the UART that `palisade.console` in the boot arguments names, else the one of
//! `stdout-path`; where nothing names one, the first PL011.

use palisade_board::text::before;
use palisade_board::{Chosen, Part, Problem, Reason, Uart, UartKind};

use crate::board::bootargs;
use crate::cells::Cells;
use crate::controllers::{self, Controllers};
use crate::error::Error;
use crate::notes::Notes;
use crate::tree::{Node, Tree, cell_count};

const PL011: &str = "arm,pl011";
/// Most clocks of a UART that are looked at.
const CLOCKS: usize = 8;

/// UARTs that are known, most particular names first: what registers they have unless `reg-shift`
/// and `reg-io-width` say otherwise.
const KNOWN: [(&str, UartKind); 17] = [
    (PL011, UartKind::Pl011),
    ("arm,sbsa-uart", UartKind::Sbsa),
    // DesignWare's stands before 16550: some call theirs both.
    ("snps,dw-apb-uart", ns16550(0, 1)),
    ("ti,am654-uart", ns16550(2, 4)),
    ("ti,am4372-uart", ns16550(2, 4)),
    ("ti,dra742-uart", ns16550(2, 4)),
    ("ti,omap4-uart", ns16550(2, 4)),
    ("mediatek,mt6577-uart", ns16550(2, 4)),
    ("nvidia,tegra20-uart", ns16550(2, 4)),
    ("mrvl,mmp-uart", ns16550(2, 4)),
    ("intel,xscale-uart", ns16550(2, 4)),
    ("fsl,ns16550", ns16550(0, 1)),
    ("ns16550a", ns16550(0, 1)),
    ("ns16550", ns16550(0, 1)),
    ("ns16450", ns16550(0, 1)),
    ("ns8250", ns16550(0, 1)),
    ("brcm,bcm2835-aux-uart", ns16550(2, 4)),
];

const fn ns16550(shift: u8, width: u8) -> UartKind {
    UartKind::Ns16550 { shift, width }
}

/// The console without its interrupt. Needs no heap, and nothing else of the tree: what is refused
/// can still be said.
pub fn console(tree: &Tree<'_>) -> Option<Uart> {
    describe(tree, &find(tree).ok()?).ok()
}

/// The console, with notes about what of it is left out.
pub(crate) fn read<'t, 'a>(
    tree: &'t Tree<'a>,
    controllers: &Controllers<'t, 'a>,
    notes: &mut Notes<'a>,
) -> Option<Uart> {
    let node = match find(tree) {
        Ok(node) => node,
        Err(None) => return None,
        Err(Some((node, reason))) => {
            notes.add(&node, Part::Console, reason);
            return None;
        }
    };
    let mut uart = notes.keep(&node, Part::Console, describe(tree, &node))?;
    uart.interrupt =
        notes.keep(&node, Part::ConsoleInput, controllers.interrupt(&node, 0)).flatten();
    Some(uart)
}

/// The node that is the console. Where one is named that cannot be it, there is none: whatever
/// else is on the board is not ours to write to.
#[expect(clippy::result_large_err, reason = "called once, before there is a heap")]
fn find<'t, 'a>(tree: &'t Tree<'a>) -> Result<Node<'t, 'a>, Option<(Node<'t, 'a>, Reason)>> {
    let chosen = tree.node("/chosen");
    let argued = Chosen { bootargs: bootargs(tree), initrd: None }.argument("palisade.console");
    let stdout = chosen.as_ref().and_then(|node| node.texts("stdout-path").next());
    let Some(named) = argued.or(stdout) else {
        return tree.find(&mut |node| node.compatible(&[PL011])).ok_or(None);
    };
    let Some(node) = by_name(tree, before(named, b':')) else {
        return Err(chosen.map(|chosen| (chosen, Reason::Dangling)));
    };
    if !node.enabled() {
        return Err(Some((node, Reason::Dangling)));
    }
    if kind(&node).is_none() {
        return Err(Some((node, Reason::Unknown)));
    }
    Ok(node)
}

/// The node of a path or an alias.
fn by_name<'t, 'a>(tree: &'t Tree<'a>, name: &str) -> Option<Node<'t, 'a>> {
    if name.starts_with('/') {
        return tree.node(name);
    }
    tree.node(tree.node("/aliases")?.texts(name).next()?)
}

fn describe<'a>(tree: &Tree<'a>, node: &Node<'_, 'a>) -> Result<Uart, Error<'a>> {
    let Some(kind) = kind(node) else {
        return Err(node.problem("compatible", Problem::Value));
    };
    Ok(Uart {
        kind: with_layout(node, kind)?,
        registers: node.first_register()?,
        interrupt: None,
        clock: clock(tree, node),
        baud: node.u32("current-speed"),
    })
}

fn kind(node: &Node<'_, '_>) -> Option<UartKind> {
    KNOWN.into_iter().find(|(name, _)| node.compatible(&[name])).map(|(_, kind)| kind)
}

/// What `reg-shift` and `reg-io-width` say of a 16550.
fn with_layout<'a>(node: &Node<'_, 'a>, kind: UartKind) -> Result<UartKind, Error<'a>> {
    let UartKind::Ns16550 { shift, width } = kind else { return Ok(kind) };
    let shift = node.u32("reg-shift").unwrap_or(shift.into());
    let width = node.u32("reg-io-width").unwrap_or(width.into());
    let Some(shift) = u8::try_from(shift).ok().filter(|shift| *shift <= 4) else {
        return Err(node.problem("reg-shift", Problem::Value));
    };
    // An access must not reach into the next register.
    match u8::try_from(width) {
        Ok(width @ (1 | 2 | 4)) if u32::from(width) <= 1 << shift => {
            Ok(UartKind::Ns16550 { shift, width })
        }
        _ => Err(node.problem("reg-io-width", Problem::Value)),
    }
}

/// UARTCLK in Hz, where a fixed clock or the node itself says it.
fn clock(tree: &Tree<'_>, node: &Node<'_, '_>) -> Option<u32> {
    if let Some(frequency) = node.u32("clock-frequency") {
        return Some(frequency);
    }
    let wanted = node.texts("clock-names").position(|name| name == "uartclk").unwrap_or(0);
    let mut cells = node.cells("clocks");
    for index in 0..CLOCKS {
        let provider = controllers::find(tree, cells.u32()?)?;
        if index == wanted {
            return Cells::new(provider.property("clock-frequency")?).u32();
        }
        let count = provider.chain().last().map_or(0, |node| cell_count(node, "#clock-cells", 0));
        for _ in 0..count {
            cells.u32()?;
        }
    }
    None
}
