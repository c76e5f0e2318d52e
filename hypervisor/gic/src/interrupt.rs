//! Interrupt numbers and what is said about them.

/// The most cores that a driver keeps routes for.
pub const MAX_CORES: usize = 16;

/// The software-generated interrupt by which one core asks another to look at its mailbox.
pub const KICK_SGI: u32 = 1;

/// INTID of the first shared peripheral interrupt (IHI 0069, 2.2).
pub const FIRST_SPI: u32 = 32;

/// INTIDs from here on are special: spurious, or of another security state (IHI 0069, 2.2.1).
pub(crate) const FIRST_SPECIAL: u32 = 1020;

/// The generation of an interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// GICv2: memory-mapped CPU interface, eight cores.
    V2,
    /// GICv3: CPU interface in system registers.
    V3,
}

/// How an interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Pending while the line is high.
    Level,
    /// Pending from a rising edge until acknowledged.
    Edge,
}

/// An acknowledged interrupt: what the acknowledge register said, to be given back unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    raw: u32,
}

impl Ack {
    /// The acknowledge register's value (IAR; on GICv2 with the source core in bits 12:10).
    pub const fn from_raw(raw: u32) -> Self {
        Self { raw }
    }

    /// The interrupt's number.
    pub const fn intid(self) -> u32 {
        self.raw & 0x00ff_ffff & if self.raw & 0x00ff_e000 == 0 { 0x3ff } else { !0 }
    }

    /// The register's value as it was read.
    pub const fn raw(self) -> u32 {
        self.raw
    }
}
