//! The power manager of the Raspberry Pi.

use palisade_board::PowerManager;

use crate::error::Error;
use crate::tree::Tree;

const MANAGERS: [&str; 2] = ["brcm,bcm2711-pm", "brcm,bcm2835-pm"];

/// The power manager, where there is one.
pub(crate) fn read<'a>(tree: &Tree<'a>) -> Result<Option<PowerManager>, Error<'a>> {
    let found = tree.find(&mut |node| node.enabled() && node.compatible(&MANAGERS));
    found.map(|node| Ok(PowerManager { registers: node.first_register()? })).transpose()
}
