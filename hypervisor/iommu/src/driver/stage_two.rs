//! Stage 2 of a stream, its policy, and what a stream does now.

use palisade_hal::{PhysAddr, Vmid};

/// Stage 2 as a stream table entry needs it (IHI 0070 §5.2, S2VMID, S2TTB and the VTCR fields).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTwo {
    /// VMID that tags every cached translation; never 0.
    pub vmid: Vmid,
    /// Root of the stage 2 table (S2TTB).
    pub table: PhysAddr,
    /// VTCR_EL2\[18:0\]: T0SZ, SL0, IRGN0, ORGN0, SH0, TG0, PS in the CPU's own positions.
    pub control: u32,
}

/// What the manifest allows for a stream beyond plain translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPolicy {
    /// The device may hold translations (ATS). Only for devices that the manifest trusts in
    /// words: a device with ATS may present any physical address as translated.
    pub ats: bool,
    /// A stage 1 fault may stall the device until software answers.
    pub stalls: bool,
}

/// What a stream does now, read back from its entry in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// Every transaction aborts.
    Abort,
    /// Every transaction passes untranslated.
    Bypass,
    /// Stage 1 only.
    Stage1,
    /// Stage 2 only.
    Stage2,
    /// Both stages.
    Nested,
}

impl StreamState {
    /// The word that reports and logs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Bypass => "bypass",
            Self::Stage1 => "stage1",
            Self::Stage2 => "stage2",
            Self::Nested => "nested",
        }
    }
}

impl core::fmt::Display for StreamState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}
