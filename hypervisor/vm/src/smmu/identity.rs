//! What the guest is told that its SMMU is.

use palisade_spec::register;

/// Width of a virtual StreamID: a PCI requester id.
pub(super) const STREAM_BITS: u32 = 16;

/// The ID registers of a virtual SMMU: the physical one's, as the driver lets a guest see it
/// (§6.3.1 to §6.3.6). IIDR reads zero: the errata of the physical SMMU are the hypervisor's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// SMMU_IDR0 to SMMU_IDR5.
    pub idr: [u32; 6],
    /// SMMU_AIDR.
    pub aidr: u32,
}

impl Identity {
    fn word(&self, number: usize) -> u32 {
        self.idr.get(number).copied().unwrap_or(0)
    }

    fn field(&self, number: usize, high: u32, low: u32) -> u32 {
        self.word(number) >> low & (u32::MAX >> (31 - (high - low)))
    }

    /// An ID register by its offset; 0 for those that are reserved.
    pub(super) fn register(&self, offset: u64) -> u32 {
        match offset {
            register::IDR0..=register::IDR5 => self.word((offset / 4) as usize),
            register::AIDR => self.aidr,
            _ => 0,
        }
    }

    /// log2 of the largest command queue (IDR1.CMDQS).
    pub(super) fn command_log2(&self) -> u32 {
        self.field(1, 25, 21)
    }

    /// log2 of the largest event queue (IDR1.EVENTQS).
    pub(super) fn event_log2(&self) -> u32 {
        self.field(1, 20, 16)
    }

    /// Completion by message (IDR0.MSI).
    pub(super) fn messages(&self) -> bool {
        self.field(0, 13, 13) == 1
    }

    /// Device TLBs (IDR0.ATS): whether ATC_INV is a command at all.
    pub(super) fn ats(&self) -> bool {
        self.field(0, 10, 10) == 1
    }

    /// Faults may stall (IDR0.STALL_MODEL is not 0b01): whether RESUME is a command.
    pub(super) fn stalls(&self) -> bool {
        self.field(0, 25, 24) != 1
    }

    /// Two-level stream tables (IDR0.ST_LEVEL).
    pub(super) fn two_levels(&self) -> bool {
        self.field(0, 28, 27) == 1
    }

    /// Width of a StreamID (IDR1.SIDSIZE), never beyond a requester id.
    pub(super) fn stream_bits(&self) -> u32 {
        self.field(1, 5, 0).min(STREAM_BITS)
    }

    /// The output address size in bits (IDR5.OAS); addresses of tables are cut to it (§6.3.23).
    pub(super) fn address_mask(&self) -> u64 {
        let bits = match self.field(5, 2, 0) {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            5 => 48,
            _ => 52,
        };
        (1 << bits) - 1
    }
}
