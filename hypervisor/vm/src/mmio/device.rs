//! What an emulated device is.

/// Width of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte.
    Bits8 = 0,
    /// Two bytes.
    Bits16,
    /// Four bytes.
    Bits32,
    /// Eight bytes.
    Bits64,
}

impl Width {
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        1 << self as u8
    }

    /// The bits that an access of this width carries.
    pub const fn mask(self) -> u64 {
        !0 >> (64 - 8 * self.bytes())
    }
}

/// Who makes an access, and where in the device's region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The vCPU.
    pub vcpu: usize,
    /// Bytes from the region's start; a multiple of the width's bytes.
    pub offset: u64,
    /// The width.
    pub width: Width,
}

/// An emulated device. Called by several vCPUs at once: the device has its own lock, which is a
/// leaf but for the virtual interrupt controller's.
///
/// The guest chooses every argument. An answer has a bounded cost, and nothing panics.
pub trait MmioDevice: Send + Sync {
    /// A load. Bits above the width are ignored.
    fn read(&self, access: Access) -> u64;

    /// A store. Bits above the width are zero.
    fn write(&self, access: Access, value: u64);
}
