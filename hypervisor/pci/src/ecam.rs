//! The Enhanced Configuration Access Mechanism (7.2.2).

use palisade_board::PcieHost;
use palisade_hal::mmio::Mmio;

use crate::Address;

/// Configuration space of one function, in bytes.
const FUNCTION: u64 = 4096;

/// Configuration space of a host, memory-mapped.
#[derive(Clone)]
pub struct Ecam {
    mmio: Mmio,
    segment: u16,
    first_bus: u8,
    last_bus: u8,
}

impl Ecam {
    /// The configuration space of `host`, mapped at `mmio` from its first bus on.
    pub fn new(mmio: Mmio, host: &PcieHost) -> Self {
        Self { mmio, segment: host.segment, first_bus: host.first_bus, last_bus: host.last_bus }
    }

    /// The segment.
    pub const fn segment(&self) -> u16 {
        self.segment
    }

    /// First and last bus number.
    pub const fn buses(&self) -> (u8, u8) {
        (self.first_bus, self.last_bus)
    }

    /// One function's configuration space. Outside the host's buses it reads as
    /// all ones and ignores writes, as an absent function does.
    pub fn config(&self, address: Address) -> Config<'_> {
        let inside = address.segment() == self.segment
            && (self.first_bus..=self.last_bus).contains(&address.bus());
        let base = inside.then(|| {
            // As indices into the window: bus 20.., device 15.., function 12...
            u64::from(address.requester())
                .saturating_sub(u64::from(self.first_bus) << 8)
                .saturating_mul(FUNCTION)
        });
        Config { mmio: &self.mmio, base, address }
    }
}

/// Configuration space of one function.
#[derive(Clone, Copy)]
pub struct Config<'e> {
    mmio: &'e Mmio,
    base: Option<u64>,
    address: Address,
}

macro_rules! access {
    ($read:ident, $write:ident, $load:ident, $store:ident, $type:ty) => {
        #[doc = concat!("Reads a `", stringify!($type), "`; all ones if `offset` is misaligned or outside.")]
        pub fn $read(&self, offset: u16) -> $type {
            match self.at(offset, size_of::<$type>() as u64) {
                Some(at) => self.mmio.$load(at),
                None => <$type>::MAX,
            }
        }

        #[doc = concat!("Writes a `", stringify!($type), "`; ignored if `offset` is misaligned or outside.")]
        pub fn $write(&self, offset: u16, value: $type) {
            if let Some(at) = self.at(offset, size_of::<$type>() as u64) {
                self.mmio.$store(at, value);
            }
        }
    };
}

impl Config<'_> {
    /// Where the function is.
    pub const fn address(&self) -> Address {
        self.address
    }

    fn at(&self, offset: u16, width: u64) -> Option<u64> {
        let offset = u64::from(offset);
        if !offset.is_multiple_of(width) || offset.saturating_add(width) > FUNCTION {
            return None;
        }
        self.base?.checked_add(offset)
    }

    access!(read8, write8, read8, write8, u8);
    access!(read16, write16, read16, write16, u16);
    access!(read32, write32, read32, write32, u32);

    /// Writes a 16-bit register as it is but for the bits of `mask`, which become
    /// those of `value`. Not for registers with write-one-to-clear bits.
    pub fn update16(&self, offset: u16, mask: u16, value: u16) {
        let old = self.read16(offset);
        self.write16(offset, (old & !mask) | (value & mask));
    }

    /// Whether a function answers: its Vendor ID is neither all ones nor the
    /// "not yet" of Configuration Request Retry Status (2.3.2).
    pub fn present(&self) -> bool {
        !matches!(self.read16(0), 0xffff | 0x0001 | 0x0000)
    }
}
