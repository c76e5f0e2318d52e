//! The device tree, validated; without the deleted entries that some firmware leaves behind.

use alloc::boxed::Box;
use alloc::vec::Vec;

use palisade_fdt::{Fault, FaultKind, Tree, compact};

use crate::machine::error::Error;

/// Validates the tree. It lives as long as the machine does.
///
/// # Errors
/// Its bytes are damaged, or it is too large to be put in order.
pub(crate) fn read(bytes: &'static [u8]) -> Result<&'static Tree<'static>, Error> {
    let tree = match Tree::new(bytes) {
        Err(Fault { kind: FaultKind::Nop, .. }) => Tree::new(tidied(bytes)?),
        other => other,
    };
    Ok(Box::leak(Box::new(tree?)))
}

/// A copy without deleted entries.
fn tidied(bytes: &[u8]) -> Result<&'static [u8], Error> {
    let mut copy = Vec::new();
    // The loader chose its size; the heap is small.
    copy.try_reserve_exact(bytes.len()).map_err(|_| Error::NoMemory)?;
    copy.extend_from_slice(bytes);
    compact(&mut copy)?;
    Ok(copy.leak())
}
