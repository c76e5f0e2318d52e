//! Which bits of configuration space a guest sees and changes.

use alloc::boxed::Box;

/// Bytes of the part that is not extended.
pub(super) const BYTES: usize = 256;

/// Masks over the first 256 bytes. At first everything reads as zero and nothing can be written.
pub(super) struct Shadow {
    /// Virtual contents.
    value: [u8; BYTES],
    /// Bits that read from the device instead of from `value`.
    device: [u8; BYTES],
    /// Bits of `value` that the guest changes.
    own: [u8; BYTES],
    /// Bits of the device that the guest changes.
    pass: [u8; BYTES],
}

impl Shadow {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { value: [0; BYTES], device: [0; BYTES], own: [0; BYTES], pass: [0; BYTES] })
    }

    /// Lets the guest read `bytes` bytes of the device.
    pub(super) fn expose(&mut self, at: u16, bytes: u16) {
        for mask in span(&mut self.device, at, bytes) {
            *mask = 0xff;
        }
    }

    /// Lets the guest change the bits of `mask` of a 16-bit register of the device.
    pub(super) fn pass16(&mut self, at: u16, mask: u16) {
        for (byte, mask) in span(&mut self.pass, at, 2).iter_mut().zip(mask.to_le_bytes()) {
            *byte = mask;
        }
    }

    /// Lets the guest change all of `bytes` bytes of the device.
    pub(super) fn pass(&mut self, at: u16, bytes: u16) {
        for mask in span(&mut self.pass, at, bytes) {
            *mask = 0xff;
        }
    }

    /// Makes a 32-bit register virtual: `value` now, `mask` for the guest to change.
    pub(super) fn own32(&mut self, at: u16, value: u32, mask: u32) {
        self.own_bytes(at, &value.to_le_bytes(), &mask.to_le_bytes());
    }

    /// Makes a 16-bit register virtual.
    pub(super) fn own16(&mut self, at: u16, value: u16, mask: u16) {
        self.own_bytes(at, &value.to_le_bytes(), &mask.to_le_bytes());
    }

    /// Makes a byte virtual.
    pub(super) fn own8(&mut self, at: u16, value: u8, mask: u8) {
        self.own_bytes(at, &[value], &[mask]);
    }

    /// Makes the bits of `bits` of a byte virtual and the guest's to change; the rest stays.
    pub(super) fn own_bits(&mut self, at: u16, bits: u8) {
        for mask in span(&mut self.device, at, 1) {
            *mask &= !bits;
        }
        for mask in span(&mut self.own, at, 1) {
            *mask |= bits;
        }
    }

    fn own_bytes(&mut self, at: u16, value: &[u8], mask: &[u8]) {
        let bytes = value.len() as u16;
        span(&mut self.value, at, bytes).copy_from_slice(value);
        span(&mut self.own, at, bytes).copy_from_slice(mask);
        span(&mut self.device, at, bytes).fill(0);
        span(&mut self.pass, at, bytes).fill(0);
    }

    /// The virtual value of a 16-bit register.
    pub(super) fn get16(&self, at: u16) -> u16 {
        self.get(at, 2) as u16
    }

    /// The virtual value of a 32-bit register.
    pub(super) fn get32(&self, at: u16) -> u32 {
        self.get(at, 4)
    }

    fn get(&self, at: u16, bytes: u16) -> u32 {
        word(&self.value, at, bytes)
    }

    /// Whether a read of `bytes` bytes needs the device.
    pub(super) fn reads_device(&self, at: u16, bytes: u16) -> bool {
        word(&self.device, at, bytes) != 0
    }

    /// What the guest reads where the device reads `device`.
    pub(super) fn read(&self, at: u16, bytes: u16, device: u32) -> u32 {
        let mask = word(&self.device, at, bytes);
        (device & mask) | (self.get(at, bytes) & !mask)
    }

    /// Takes the guest's write into the virtual contents; answers the bits that pass to the
    /// device.
    pub(super) fn write(&mut self, at: u16, bytes: u16, value: u32) -> u32 {
        let mask = word(&self.own, at, bytes);
        let new = (self.get(at, bytes) & !mask) | (value & mask);
        for (byte, new) in span(&mut self.value, at, bytes).iter_mut().zip(new.to_le_bytes()) {
            *byte = new;
        }
        word(&self.pass, at, bytes)
    }

    /// Every bit that the guest could change is 0 again.
    pub(super) fn reset(&mut self) {
        for (value, mask) in self.value.iter_mut().zip(&self.own) {
            *value &= !mask;
        }
    }
}

/// The bytes from `at` on, empty outside.
fn span(bytes: &mut [u8; BYTES], at: u16, count: u16) -> &mut [u8] {
    let start = usize::from(at).min(BYTES);
    let end = start.saturating_add(usize::from(count)).min(BYTES);
    bytes.get_mut(start..end).unwrap_or_default()
}

/// Up to four bytes as a little-endian word; 0 outside.
fn word(bytes: &[u8; BYTES], at: u16, count: u16) -> u32 {
    (0..count.min(4)).rev().fold(0, |word, offset| {
        let byte = bytes.get(usize::from(at.saturating_add(offset))).copied().unwrap_or(0);
        (word << 8) | u32::from(byte)
    })
}
