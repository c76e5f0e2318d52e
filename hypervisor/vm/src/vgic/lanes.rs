//! Accesses of any width, as one or two words with the lanes that they carry.
use crate::mmio::{Access, Width};

/// A load through `word`, which reads the 32-bit register at an offset.
pub fn load(access: Access, mut word: impl FnMut(u64) -> u32) -> u64 {
    let base = access.offset & !3;
    match access.width {
        Width::Bits64 => u64::from(word(base)) | u64::from(word(base + 4)) << 32,
        _ => u64::from(word(base)) >> (8 * (access.offset & 3)),
    }
}

/// A store through `word`, which writes some bits of the 32-bit register at an offset:
/// `(offset, value, mask)`.
pub fn store(access: Access, value: u64, mut word: impl FnMut(u64, u32, u32)) {
    let base = access.offset & !3;
    match access.width {
        Width::Bits64 => {
            word(base, value as u32, !0);
            word(base + 4, (value >> 32) as u32, !0);
        }
        width => {
            let shift = 8 * (access.offset & 3);
            word(base, ((value & width.mask()) << shift) as u32, (width.mask() << shift) as u32);
        }
    }
}
