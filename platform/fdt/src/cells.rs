//! Reading big-endian cells off a property.

/// The cells of a property that are still to be read.
#[derive(Clone, Copy)]
pub struct Cells<'a>(&'a [u8]);

impl<'a> Cells<'a> {
    /// All cells of a property's value.
    pub const fn new(value: &'a [u8]) -> Self {
        Self(value)
    }

    /// Whether all are read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next cell.
    #[inline(never)]
    pub fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*head))
    }

    /// The next `count` cells as one number; `None` if they run out or the
    /// number exceeds 64 bits.
    #[inline(never)]
    pub fn number(&mut self, count: u32) -> Option<u64> {
        let mut value = 0u64;
        for _ in 0..count {
            if value >> 32 != 0 {
                return None;
            }
            value = (value << 32) | u64::from(self.u32()?);
        }
        Some(value)
    }
}
