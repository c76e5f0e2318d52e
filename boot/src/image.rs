//! Where the linker put the parts of the image.

use core::ops::Range;

/// The linker's answers, in the order of `linker/sections.ld`. Words, since code can name only
/// what lies within 1 MiB of it (the tiny code model), and the ends of the image do not.
#[repr(C)]
struct Layout {
    image: [u64; 2],
    text: [u64; 2],
    rodata: [u64; 2],
    data: [u64; 2],
    stacks: [u64; 2],
    areas: u64,
    default_uart: u64,
    default_psci: u64,
}

unsafe extern "C" {
    /// Constant, and complete before the first instruction runs.
    safe static __layout: Layout;
}

fn range([start, end]: [u64; 2]) -> Range<u64> {
    start..end
}

/// The hypervisor's image in memory, BSS and stacks included.
#[derive(Clone, Copy, Debug)]
pub struct Image;

impl Image {
    /// First byte to one past the last; page aligned at both ends.
    pub fn whole(self) -> Range<u64> {
        range(__layout.image)
    }

    /// Header and code: read, execute.
    pub fn text(self) -> Range<u64> {
        range(__layout.text)
    }

    /// Constants: read only.
    pub fn rodata(self) -> Range<u64> {
        range(__layout.rodata)
    }

    /// Data and BSS: read, write, never execute.
    pub fn data(self) -> Range<u64> {
        range(__layout.data)
    }

    /// The UART of last resort, as the board's linker script says.
    pub(crate) fn default_uart(self) -> Option<u64> {
        Some(__layout.default_uart).filter(|address| *address != 0)
    }

    /// Whether the board's firmware has PSCI whatever its device tree says.
    pub(crate) fn default_psci(self) -> bool {
        __layout.default_psci != 0
    }

    /// The heap, then the stacks with their guard pages.
    pub(crate) fn stacks(self) -> Range<u64> {
        range(__layout.stacks)
    }

    /// Where `area::AREAS` is.
    pub(crate) fn areas(self) -> u64 {
        __layout.areas
    }
}
