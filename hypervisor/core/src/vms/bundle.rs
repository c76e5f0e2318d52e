//! The bundle: found where the boot loader left it, mapped read only, parsed.

use alloc::boxed::Box;

use palisade_board::BoardInfo;
use palisade_bundle::Bundle;
use palisade_hal::machine::{Machine, MapKind};

use crate::machine::error::Error;
use crate::wire::report::Record;

/// The bundle for a machine with `cores` cores; `None` when the loader left none.
///
/// # Errors
/// It lies outside RAM or over the image, or is damaged as a whole.
pub(crate) fn open(
    board: &BoardInfo<'_>,
    machine: &dyn Machine,
    image: &core::ops::Range<u64>,
    cores: usize,
) -> Result<Option<&'static Bundle<'static>>, Error> {
    let Some(place) = board.chosen.initrd else { return Ok(None) };
    let inside = board.memory.iter().any(|ram| ram.encloses(&place));
    if !inside || (place.start() < image.end && image.start < place.end()) {
        return Err(Error::BundlePlace(place.start(), place.end()));
    }
    machine.map(place.start()..place.end(), MapKind::ReadOnly)?;
    // SAFETY: RAM, mapped for good and read only by us; the allocator was told
    // that it is taken, so that nothing else writes it.
    let bytes =
        unsafe { core::slice::from_raw_parts(place.start() as *const u8, place.size() as usize) };
    let bundle = Bundle::parse(bytes, cores).map_err(Error::Bundle)?;
    Ok(Some(Box::leak(Box::new(bundle))))
}

/// Tells that one VM is refused, and why.
pub(crate) fn refused(name: &str, index: usize, error: &dyn core::fmt::Display) {
    log::error!("vm {name} is refused: {error}");
    Record::new("vm")
        .text("name", name)
        .number("index", index as u64)
        .text("state", "refused")
        .text("error", error)
        .send();
}
