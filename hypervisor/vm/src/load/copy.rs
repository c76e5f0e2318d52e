//! Puts a VM's images where [`place`] says.

use palisade_hal::Ipa;

use super::{LoadError, Machine, place, place_firmware, tree};
use crate::{flash, layout, memory::GuestMemory};

/// What is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// An arm64 Image, a flat binary, or firmware.
    pub kernel: &'a [u8],
    /// The initrd.
    pub initrd: Option<&'a [u8]>,
}

/// How the first vCPU starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Its first instruction.
    pub entry: Ipa,
    /// Its X0: the device tree.
    pub tree: Ipa,
}

/// Copies kernel and initrd into the VM's RAM, and a device tree of `machine` whose initrd is
/// filled in here.
///
/// # Errors
/// [`LoadError`].
pub fn load(
    memory: &GuestMemory,
    machine: &Machine<'_>,
    images: Images<'_>,
) -> Result<Boot, LoadError> {
    let bytes = images.initrd.map_or(0, <[u8]>::len) as u64;
    let placed = if machine.firmware {
        place_firmware(images.kernel.len() as u64, machine.memory)?
    } else {
        place(images.kernel, bytes, machine.memory)?
    };
    let initrd = images.initrd.map(|_| (placed.initrd.get(), bytes));
    let blob = tree(&Machine { initrd, ..*machine }).map_err(|_| LoadError::Tree)?;
    if blob.len() as u64 > placed.tree_bytes {
        return Err(LoadError::Tree);
    }
    let put = |at: Ipa, bytes: &[u8]| match memory.write(at, bytes) {
        true => Ok(()),
        false => Err(LoadError::NoRam(at)),
    };
    put(placed.kernel, images.kernel)?;
    if machine.firmware && !flash::erase_all(memory) {
        return Err(LoadError::NoRam(Ipa::new(layout::VARIABLES_STORE)));
    }
    put(placed.initrd, images.initrd.unwrap_or(&[]))?;
    put(placed.tree, &blob)?;
    Ok(Boot { entry: placed.kernel, tree: placed.tree })
}
