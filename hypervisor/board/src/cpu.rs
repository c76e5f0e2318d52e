//! Cores and how to start them.

use palisade_hal::PhysAddr;

/// A core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Affinity fields of MPIDR_EL1 (DDI 0487, D24.2.122): Aff3 in bits 39:32,
    /// Aff2..Aff0 in bits 23:0.
    pub mpidr: u64,
    /// How it is started.
    pub enable: EnableMethod,
}

/// How a secondary core is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnableMethod {
    /// PSCI CPU_ON.
    Psci,
    /// The core waits in WFE for a non-zero 64-bit address to appear here.
    SpinTable {
        /// `cpu-release-addr`.
        release: PhysAddr,
    },
    /// The device tree names none, or one that Palisade does not know: the
    /// core can only be the one that booted.
    None,
}

/// How PSCI is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// By SMC.
    Smc,
    /// By HVC: there is a hypervisor beneath.
    Hvc,
}
