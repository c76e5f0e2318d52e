//! What the boot code offers to the main line: a seam, since the main line is
//! tested on hosts where nothing boots.

use core::fmt;
use core::ops::Range;

/// The most cores that Palisade brings up; further ones stay off.
pub const MAX_CPUS: usize = 8;

/// What a range of the hypervisor's own address space is mapped as. There is no
/// kind that is writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Normal memory: read, execute.
    Text,
    /// Normal memory: read.
    ReadOnly,
    /// Normal memory: read, write.
    Data,
    /// Device-nGnRE: read, write.
    Device,
}

/// How a core is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartMethod {
    /// PSCI CPU_ON.
    Psci(Conduit),
    /// The core waits in WFE for an address to appear here, in memory that the
    /// hypervisor has mapped.
    SpinTable(u64),
}

/// How PSCI is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By SMC.
    Smc,
    /// By HVC: there is a hypervisor beneath.
    Hvc,
}

/// What the machine could not do; with the address or number to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// The range is empty, reversed or too high.
    Range(u64),
    /// No page table is left for this address.
    NoTables(u64),
    /// There is no room for a core of this number.
    NoCore(usize),
    /// No spin-table address: 0, misaligned or too high.
    Release(u64),
    /// The firmware refused to start the core of this affinity.
    Refused(u64),
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, value) = match *self {
            Self::Range(value) => ("not a range of addresses", value),
            Self::NoTables(value) => ("no page table left for", value),
            Self::NoCore(value) => ("no room for core", value as u64),
            Self::Release(value) => ("not a spin-table address", value),
            Self::Refused(value) => ("the firmware refused to start core", value),
        };
        write!(f, "{text}: {value:#x}")
    }
}

impl core::error::Error for MachineError {}

/// Registers at a fatal exception.
#[repr(C)]
#[derive(Clone)]
pub struct Frame {
    /// X0 to X30.
    pub x: [u64; 31],
    /// SP_EL2.
    pub sp: u64,
    /// ELR_EL2.
    pub elr: u64,
    /// SPSR_EL2.
    pub spsr: u64,
    /// ESR_EL2.
    pub esr: u64,
    /// FAR_EL2.
    pub far: u64,
}

/// An exception that EL2 itself took: a bug, or broken hardware.
pub struct Fatal<'a> {
    /// Which of the four kinds of exceptions.
    pub kind: &'static str,
    /// The registers when it was taken.
    pub frame: &'a Frame,
}

/// What the first core is given when it enters the main line.
pub struct BootInfo {
    /// The device tree, as long as its header says; `None` where the loader
    /// gave none. Not validated.
    pub tree: Option<&'static [u8]>,
    /// The physical count at the first instruction.
    pub entry_ticks: u64,
    /// The hypervisor's image in memory, BSS and stacks included.
    pub image: Range<u64>,
    /// The machine.
    pub machine: &'static dyn Machine,
}

/// An entry at another exception level than EL2: the MMU is off, and nothing
/// may be done but to say so.
pub struct Refusal {
    /// As in [`BootInfo`].
    pub tree: Option<&'static [u8]>,
    /// The level that the loader chose.
    pub level: u64,
    /// The machine; only [`Machine::off`] and its defaults work.
    pub machine: &'static dyn Machine,
}

/// The machine below the main line.
pub trait Machine: Sync {
    /// Maps `range`, whole pages, one to one. What is mapped already keeps its
    /// kind; the image with its guard pages is left out.
    ///
    /// # Errors
    /// [`MachineError::Range`], [`MachineError::NoTables`].
    fn map(&self, range: Range<u64>, kind: MapKind) -> Result<(), MachineError>;

    /// Starts core `index` (1 and up), whose affinity fields are `affinity`.
    /// Whether it has come up, the caller must see for itself.
    ///
    /// # Errors
    /// [`MachineError::NoCore`], [`MachineError::Release`], [`MachineError::Refused`].
    fn start(&self, index: usize, affinity: u64, method: StartMethod) -> Result<(), MachineError>;

    /// Turns the machine off; where that is impossible, this core stops.
    fn off(&self, conduit: Option<Conduit>) -> !;

    /// Ends the emulator with `status`, by semihosting. Only where the command
    /// line says that there is semihosting, and only before any guest has run.
    fn exit(&self, status: u32) -> !;

    /// Where the board's first PL011 is, for words that must come out when no device tree can be
    /// read; `None` where the board's linker script does not say.
    fn default_uart(&self) -> Option<u64>;

    /// How PSCI is called from exception level `level` where no device tree says; `None` where the
    /// board's linker script does not promise that there is any.
    fn default_conduit(&self, level: u64) -> Option<Conduit>;

    /// Where the stack of core `index` lies; empty for a core that there is not.
    fn stack(&self, index: usize) -> Range<u64>;
}
