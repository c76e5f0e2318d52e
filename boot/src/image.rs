//! Where the linker put the parts of the image.

use core::ops::Range;

macro_rules! symbols {
    ($($name:ident)*) => {
        unsafe extern "C" { $(static $name: u8;)* }
    };
}

symbols!(
    __image_start __text_start __text_end __rodata_start __rodata_end
    __data_start __bss_end __stacks_start __stacks_end __image_end __default_uart
);

/// The address of a linker symbol.
macro_rules! address {
    ($name:ident) => {
        (&raw const $name) as u64
    };
}

/// The hypervisor's image in memory, BSS and stacks included.
#[derive(Clone, Copy, Debug)]
pub struct Image;

impl Image {
    /// First byte to one past the last; page aligned at both ends.
    pub fn whole(self) -> Range<u64> {
        address!(__image_start)..address!(__image_end)
    }

    /// Header and code: read, execute.
    pub fn text(self) -> Range<u64> {
        address!(__text_start)..address!(__text_end)
    }

    /// Constants: read only.
    pub fn rodata(self) -> Range<u64> {
        address!(__rodata_start)..address!(__rodata_end)
    }

    /// Data and BSS: read, write, never execute.
    pub fn data(self) -> Range<u64> {
        address!(__data_start)..address!(__bss_end)
    }

    /// The UART of last resort, as the board's linker script says.
    pub(crate) fn default_uart(self) -> Option<u64> {
        Some(address!(__default_uart)).filter(|address| *address != 0)
    }

    /// The stacks with their guard pages.
    pub(crate) fn stacks(self) -> Range<u64> {
        address!(__stacks_start)..address!(__stacks_end)
    }
}
