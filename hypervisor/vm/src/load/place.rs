//! Where kernel, device tree and initrd go.

use palisade_hal::Ipa;
use thiserror::Error;

use crate::layout::{FLASH, FLASH_BYTES, RAM};

/// The boot protocol's limit for a device tree, in bytes.
const TREE_MAX: u64 = 2 << 20;
/// The least that a kernel may use behind its image before it reads the device tree, in bytes.
const SLACK: u64 = (1 << 20) + PAGE;
/// Where a flat binary without a header goes, from the start of RAM.
const FLAT_OFFSET: u64 = 0x8_0000;
/// An Image's base is a multiple of this, in bytes.
const IMAGE_ALIGN: u64 = 2 << 20;
const PAGE: u64 = 4096;

/// The images of a VM do not fit, or are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The kernel is empty.
    #[error("the kernel is empty")]
    Empty,
    /// The kernel's header says that it is big endian.
    #[error("the kernel is big endian")]
    BigEndian,
    /// The header's numbers cannot be.
    #[error("the kernel's header says text_offset {offset:#x}, image_size {size:#x}")]
    Header {
        /// text_offset.
        offset: u64,
        /// image_size.
        size: u64,
    },
    /// The images need more memory than there is.
    #[error("the images need {needed:#x} bytes of memory, the VM has {memory:#x}")]
    TooSmall {
        /// Bytes needed, slack and device tree included.
        needed: u64,
        /// Bytes of RAM.
        memory: u64,
    },
    /// The device tree cannot be written, or is longer than its place.
    #[error("the device tree cannot be made")]
    Tree,
    /// Firmware that does not fit its flash, with an initrd that it could not find, or too little
    /// memory for it.
    #[error(
        "the firmware has {bytes:#x} bytes, its flash {FLASH_BYTES:#x}, and the VM {memory:#x} of memory"
    )]
    Firmware {
        /// Bytes of the firmware.
        bytes: u64,
        /// Bytes of RAM.
        memory: u64,
    },
    /// The RAM is not there.
    #[error("the VM's RAM at {0} cannot be written")]
    NoRam(Ipa),
}

/// Where everything goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// First byte of the kernel's file, and where the first vCPU starts.
    pub kernel: Ipa,
    /// First byte of the initrd, which is `kernel`'s end when there is none.
    pub initrd: Ipa,
    /// First byte of the device tree.
    pub tree: Ipa,
    /// Most bytes that the device tree may have.
    pub tree_bytes: u64,
}

fn word(kernel: &[u8], at: usize) -> Option<u64> {
    let bytes = kernel.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Offset from the start of RAM and bytes in memory that an arm64 Image asks for; `None` for
/// anything else.
fn header(kernel: &[u8]) -> Result<Option<(u64, u64)>, LoadError> {
    if kernel.get(56..60) != Some(b"ARM\x64".as_slice()) {
        return Ok(None);
    }
    let (Some(offset), Some(size), Some(flags)) =
        (word(kernel, 8), word(kernel, 16), word(kernel, 24))
    else {
        return Ok(None);
    };
    if flags & 1 != 0 {
        return Err(LoadError::BigEndian);
    }
    // Kernels before 3.17 leave both at 0 and mean 0x80000.
    let offset = if size == 0 { FLAT_OFFSET } else { offset };
    if offset >= IMAGE_ALIGN << 8 || size >= 1 << 32 || !offset.is_multiple_of(PAGE) {
        return Err(LoadError::Header { offset, size });
    }
    Ok(Some((offset, size)))
}

/// Decides where a kernel and an initrd of `initrd` bytes go in `memory` bytes of RAM: the
/// kernel low, the device tree at the top, the initrd below it.
///
/// # Errors
/// [`LoadError`].
pub fn place(kernel: &[u8], initrd: u64, memory: u64) -> Result<Placement, LoadError> {
    if kernel.is_empty() {
        return Err(LoadError::Empty);
    }
    let file = kernel.len() as u64;
    let (offset, in_memory) = header(kernel)?.unwrap_or((FLAT_OFFSET, file));
    // None of these can wrap: file and initrd are slices of memory, the rest is bounded above.
    let kernel_end = offset.saturating_add(in_memory.max(file));
    let initrd_bytes = initrd.saturating_add(PAGE - 1) & !(PAGE - 1);
    let tree_bytes = TREE_MAX.min(memory / 16) & !(PAGE - 1);
    let needed = kernel_end
        .saturating_add(SLACK)
        .saturating_add(initrd_bytes)
        .saturating_add(tree_bytes.max(PAGE));
    let too_small = LoadError::TooSmall { needed, memory };
    if needed > memory || tree_bytes == 0 {
        return Err(too_small);
    }
    let tree = (memory - tree_bytes) & !(PAGE - 1);
    let initrd_at = tree.checked_sub(initrd_bytes).ok_or(too_small)?;
    Ok(Placement {
        kernel: Ipa::new(RAM + offset),
        initrd: Ipa::new(RAM + initrd_at),
        tree: Ipa::new(RAM + tree),
        tree_bytes,
    })
}

/// Decides where firmware of `bytes` bytes goes: into flash from its first byte on, where the
/// first vCPU starts; the device tree at the start of RAM, where firmware looks for it.
///
/// # Errors
/// [`LoadError::Firmware`].
pub fn place_firmware(bytes: u64, memory: u64) -> Result<Placement, LoadError> {
    let tree_bytes = TREE_MAX.min(memory / 16) & !(PAGE - 1);
    if bytes == 0 || bytes > FLASH_BYTES || tree_bytes == 0 {
        return Err(LoadError::Firmware { bytes, memory });
    }
    let tree = Ipa::new(RAM);
    Ok(Placement { kernel: Ipa::new(FLASH), initrd: tree, tree, tree_bytes })
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn image(offset: u64, size: u64, flags: u64, file: usize) -> Vec<u8> {
        let mut bytes = vec![0; file];
        bytes[8..16].copy_from_slice(&offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&size.to_le_bytes());
        bytes[24..32].copy_from_slice(&flags.to_le_bytes());
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn an_image_goes_where_its_header_says() {
        let placed = place(&image(0, 0x20_0000, 0b1010, 4096), 5000, 64 << 20).unwrap();
        assert_eq!(placed.kernel, Ipa::new(RAM));
        assert_eq!(placed.tree, Ipa::new(RAM + (62 << 20)));
        assert_eq!(placed.initrd, Ipa::new(RAM + (62 << 20) - 8192));
        let old = place(&image(0, 0, 0, 4096), 0, 64 << 20).unwrap();
        assert_eq!(old.kernel, Ipa::new(RAM + 0x8_0000));
    }

    #[test]
    fn a_flat_binary_goes_where_the_oldest_loaders_put_it() {
        assert_eq!(place(&[1; 100], 0, 64 << 20).unwrap().kernel, Ipa::new(RAM + 0x8_0000));
    }

    #[test]
    fn firmware_starts_in_flash_and_finds_the_tree_at_the_start_of_ram() {
        let placed = place_firmware(2 << 20, 128 << 20).unwrap();
        assert_eq!((placed.kernel, placed.tree), (Ipa::new(0), Ipa::new(RAM)));
        for (bytes, memory) in [(0, 64 << 20), (FLASH_BYTES + 1, 64 << 20), (1, PAGE)] {
            assert_eq!(place_firmware(bytes, memory), Err(LoadError::Firmware { bytes, memory }));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(place(&[], 0, 64 << 20), Err(LoadError::Empty));
        assert_eq!(place(&image(0, 4096, 1, 64), 0, 64 << 20), Err(LoadError::BigEndian));
        for (offset, size) in [(u64::MAX, 4096), (0, u64::MAX), (1, 4096)] {
            let wrong = place(&image(offset, size, 0, 64), 0, 64 << 20);
            assert_eq!(wrong, Err(LoadError::Header { offset, size }));
        }
    }

    #[test]
    fn everything_fits_without_overlap_or_is_refused() {
        for memory in [0, PAGE, 2 << 20, 4 << 20, 8 << 20, 64 << 20] {
            for size in [1, 0x10_0000, 0x20_0000, 0x300_0000] {
                for initrd in [0, 1, 0x10_0000, 0x400_0000, u64::MAX] {
                    let Ok(placed) = place(&image(0, size, 0, 4096), initrd, memory) else {
                        continue;
                    };
                    assert!(RAM + size + SLACK <= placed.initrd.get());
                    assert!(placed.initrd.get() + initrd <= placed.tree.get());
                    assert!(placed.tree.get() + placed.tree_bytes <= RAM + memory);
                }
            }
        }
    }
}
