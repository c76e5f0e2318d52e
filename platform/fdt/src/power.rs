//! The power manager of the Raspberry Pi.

use palisade_board::{Part, PowerManager};

use crate::notes::Notes;
use crate::tree::Tree;

const MANAGERS: [&str; 2] = ["brcm,bcm2711-pm", "brcm,bcm2835-pm"];

/// The power manager, where there is one.
pub(crate) fn read<'a>(tree: &Tree<'a>, notes: &mut Notes<'a>) -> Option<PowerManager> {
    let node = tree.find(&mut |node| node.enabled() && node.compatible(&MANAGERS))?;
    let registers = notes.keep(&node, Part::Power, node.first_register())?;
    Some(PowerManager { registers })
}
