//! The arm64 Image header (Linux, Documentation/arch/arm64/booting.rst): 64 bytes, little-endian.

use crate::Refusal;

/// Where the fields are.
const TEXT_OFFSET: usize = 8;
const IMAGE_SIZE: usize = 16;
const FLAGS: usize = 24;
const MAGIC: usize = 56;
/// Flags, bit 0: big-endian; bit 3: it may be put anywhere.
const BIG_ENDIAN: u64 = 1;
const ANYWHERE: u64 = 1 << 3;
/// What the base is aligned to.
const ALIGN: u64 = 2 << 20;
/// No hypervisor is larger.
const LARGEST: u64 = 64 << 20;

/// What its header says of an Image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Image {
    /// Where it begins, from the start of RAM.
    pub offset: u64,
    /// What it takes, memory that is not in the file included.
    pub size: u64,
}

impl Image {
    /// Reads the header.
    ///
    /// # Errors
    /// It is none, or not one of ours.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
            word.copied().map(u64::from_le_bytes).ok_or(Refusal::Image("it is too short"))
        };
        if bytes.get(MAGIC..).and_then(|rest| rest.first_chunk::<4>()) != Some(b"ARM\x64") {
            return Err(Refusal::Image("its header has no magic number"));
        }
        let (offset, size, flags) = (word(TEXT_OFFSET)?, word(IMAGE_SIZE)?, word(FLAGS)?);
        if flags & BIG_ENDIAN != 0 {
            return Err(Refusal::Image("it is big-endian"));
        }
        if flags & ANYWHERE != 0 {
            // Ours runs where it is linked only; another kernel would not confine anything.
            return Err(Refusal::Image("it is another kernel than Palisade"));
        }
        if size > LARGEST || offset > LARGEST || !offset.is_multiple_of(4096) {
            return Err(Refusal::Image("its size or offset cannot be right"));
        }
        if size < bytes.len() as u64 {
            return Err(Refusal::Image("it is larger than its header says"));
        }
        Ok(Self { offset, size })
    }

    /// Where it belongs, by the lowest address of RAM.
    ///
    /// # Errors
    /// There is no such address.
    pub fn base(&self, ram: u64) -> Result<u64, Refusal> {
        let start = ram.checked_next_multiple_of(ALIGN);
        let base = start.and_then(|start| start.checked_add(self.offset));
        base.ok_or(Refusal::Image("there is no address for it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(offset: u64, size: u64, flags: u64) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[8..16].copy_from_slice(&offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&size.to_le_bytes());
        bytes[24..32].copy_from_slice(&flags.to_le_bytes());
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn an_image_says_where_it_belongs() {
        let read = Image::read(&image(0x20_0000, 0x10_0000, 2)).expect("an Image");
        assert_eq!(read, Image { offset: 0x20_0000, size: 0x10_0000 });
        assert_eq!(read.base(0x4000_0000), Ok(0x4020_0000));
        assert_eq!(read.base(0x4000_1000), Ok(0x4040_0000), "RAM begins there");
        assert!(read.base(u64::MAX).is_err());
    }

    #[test]
    fn what_is_none_is_refused() {
        for length in 0..60 {
            assert!(Image::read(&image(0, 64, 2)[..length]).is_err(), "{length}");
        }
        for (offset, size, flags) in
            [(0, 64, 3), (0, 64, 10), (0, 63, 2), (0, u64::MAX, 2), (u64::MAX, 64, 2), (1, 64, 2)]
        {
            assert!(Image::read(&image(offset, size, flags)).is_err(), "{offset} {size} {flags}");
        }
    }
}
