//! Interrupts as the device tree gives them, already turned into INTIDs.

/// How an interrupt line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Rising or falling edge.
    Edge,
    /// High or low level.
    Level,
}

/// A wired interrupt of the GIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupt {
    /// INTID: 16..=31 for a PPI, 32..=1019 for an SPI; in the extended ranges of GICv3.1
    /// 1056..=1119 for a PPI, 4096..=5119 for an SPI (IHI 0069, 2.2).
    pub intid: u32,
    /// Edge or level.
    pub trigger: Trigger,
}

/// The generic timer's interrupts (PPIs).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Secure EL1 physical timer, where the device tree lists it.
    pub secure: Option<Interrupt>,
    /// Non-secure EL1 physical timer (CNTP).
    pub physical: Interrupt,
    /// Virtual timer (CNTV).
    pub virtual_: Interrupt,
    /// EL2 physical timer (CNTHP), where the device tree lists it.
    pub hypervisor: Option<Interrupt>,
    /// EL2 virtual timer (CNTHV), where the device tree lists it.
    pub hypervisor_virtual: Option<Interrupt>,
    /// `clock-frequency`, in Hz, where firmware failed to set CNTFRQ_EL0.
    pub frequency: Option<u32>,
}
