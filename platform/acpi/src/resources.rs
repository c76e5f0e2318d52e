//! Resource descriptors (6.4): what a root bridge's protocol says it has allocated (UEFI 2.10,
//! section 14.2, `Configuration`).

use alloc::vec::Vec;

use palisade_board::{MAX_WINDOWS, Range, Space, Window};

/// 6.4.3.5.1, table 6.44: tag and length of a QWord address space descriptor.
const QWORD: u8 = 0x8a;
const LENGTH: usize = 46;
/// 6.4.2.9: end tag.
const END: u8 = 0x79;
/// 6.4.3.5.5, table 6.49: _MEM, bits 2:1 of the flags; 3 is prefetchable memory.
const PREFETCHABLE: u8 = 0b11 << 1;
/// Most descriptors that are looked at.
const MOST: usize = 256;

/// The memory windows of a list of descriptors; `None` where it cannot be divided. I/O ports are
/// no memory and are left out, and so is memory that the CPU sees at other addresses than the bus:
/// firmware does not agree with itself about the sign.
pub fn windows(list: &[u8]) -> Option<Vec<Window>> {
    let mut rest = list;
    let mut windows = Vec::new();
    for _ in 0..MOST {
        match *rest.first()? {
            END => return Some(windows),
            QWORD => {}
            _ => return None,
        }
        let (descriptor, behind) = rest.split_at_checked(LENGTH)?;
        rest = behind;
        let word = |at: usize| {
            let bytes = descriptor.get(at..)?.first_chunk::<8>()?;
            Some(u64::from_le_bytes(*bytes))
        };
        if descriptor.get(1..3)? != [0x2b, 0] {
            return None;
        }
        let (kind, flags) = (*descriptor.get(3)?, *descriptor.get(5)?);
        let (start, shift, size) = (word(14)?, word(30)?, word(38)?);
        // Type 0: memory.
        if kind != 0 || shift != 0 || windows.len() >= MAX_WINDOWS {
            continue;
        }
        let Some(cpu) = Range::new(start, size) else { continue };
        let space = if cpu.end() <= 1 << 32 { Space::Memory32 } else { Space::Memory64 };
        let prefetchable = flags & PREFETCHABLE == PREFETCHABLE;
        windows.push(Window { space, prefetchable, bus: start, cpu });
    }
    None
}
