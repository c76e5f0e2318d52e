//! What belongs to one core: stack, guard pages, emergency stack and the words
//! that the exception vectors reach through `TPIDR_EL2`.

use core::mem::offset_of;
use core::ptr;

use palisade_hal::machine::{Frame, MAX_CPUS};

use crate::image::Image;

/// A core's stack, in bytes.
pub(crate) const STACK_SIZE: usize = 64 * 1024;
/// The stack on which a fatal exception is reported, in bytes.
pub(crate) const EMERGENCY_SIZE: usize = 16 * 1024;
pub(crate) const PAGE: usize = 4096;

/// What `TPIDR_EL2` points at. It lies at the top of the core's emergency
/// stack, so that the vectors find both with one register.
#[repr(C, align(64))]
pub(crate) struct Words {
    /// The core's number, from 0 on. First: hal reads it through `TPIDR_EL2`.
    pub(crate) index: u64,
    /// Affinity fields of the core's `MPIDR_EL1`.
    pub(crate) mpidr: u64,
    /// Top of the core's stack.
    pub(crate) stack: u64,
    /// Not 0 once this core has begun to report a fatal exception.
    pub(crate) dying: u64,
    /// Registers at a fatal exception.
    pub(crate) frame: Frame,
}

pub(crate) const WORDS_MPIDR: usize = offset_of!(Words, mpidr);
pub(crate) const WORDS_STACK: usize = offset_of!(Words, stack);
pub(crate) const WORDS_FRAME: usize = offset_of!(Words, frame);

/// One core's memory. Guard pages are never mapped.
#[repr(C, align(4096))]
pub(crate) struct Area {
    guard: [u8; PAGE],
    stack: [u8; STACK_SIZE],
    emergency_guard: [u8; PAGE],
    emergency: [u8; EMERGENCY_SIZE],
    words: Words,
}

/// The distance between two areas, in bytes.
pub(crate) const AREA_SIZE: usize = size_of::<Area>();
pub(crate) const AREA_WORDS: usize = offset_of!(Area, words);
pub(crate) const AREA_STACK_TOP: usize = offset_of!(Area, emergency_guard);

#[unsafe(link_section = ".stacks")]
pub(crate) static mut AREAS: core::mem::MaybeUninit<[Area; MAX_CPUS]> =
    core::mem::MaybeUninit::uninit();

/// The address of core `index`'s words, `None` beyond [`MAX_CPUS`].
pub(crate) fn words(index: usize) -> Option<*mut Words> {
    let first = ptr::with_exposed_provenance_mut::<Area>(Image.areas() as usize);
    // The pointer is only computed here; `index` keeps it inside AREAS.
    (index < MAX_CPUS).then(|| first.wrapping_add(index).wrapping_byte_add(AREA_WORDS).cast())
}

/// Address ranges of the two guard pages of core `index`.
pub(crate) fn guards(index: usize) -> [u64; 2] {
    let area = Image.areas() + (index * AREA_SIZE) as u64;
    [area + offset_of!(Area, guard) as u64, area + offset_of!(Area, emergency_guard) as u64]
}

/// Marks every area as nobody's, so that no core takes another's.
pub(crate) fn clear() {
    for index in 0..MAX_CPUS {
        let Some(words) = words(index) else { return };
        // SAFETY: inside AREAS; runs before any core looks at its words.
        unsafe { ptr::write_volatile(&raw mut (*words).mpidr, u64::MAX) };
    }
}

/// Fills in the words of a core before it runs.
pub(crate) fn prepare(index: usize, mpidr: u64) -> Option<*mut Words> {
    let words = words(index)?;
    let stack = words as u64 - AREA_WORDS as u64 + AREA_STACK_TOP as u64;
    // SAFETY: `words` lies inside AREAS, which is writable and of this type;
    // the core that will read it through TPIDR_EL2 has not started yet, or is
    // this one and holds no reference to it.
    unsafe {
        ptr::write_volatile(&raw mut (*words).index, index as u64);
        ptr::write_volatile(&raw mut (*words).mpidr, mpidr);
        ptr::write_volatile(&raw mut (*words).stack, stack);
        ptr::write_volatile(&raw mut (*words).dying, 0);
    }
    Some(words)
}

/// Where the stack of core `index` lies; empty for a core that there is not.
pub(crate) fn stack(index: usize) -> core::ops::Range<u64> {
    let Some(words) = words(index) else { return 0..0 };
    let top = words as u64 - AREA_WORDS as u64 + AREA_STACK_TOP as u64;
    top - STACK_SIZE as u64..top
}
