//! What crosses the border between the hypervisor and a guest, as plain values.

/// General registers of a vCPU while it is not running. EL1's system registers
/// and the floating-point registers stay in the hardware: a vCPU never leaves
/// its core, and the hypervisor touches neither.
#[repr(C)]
#[derive(Clone, PartialEq, Eq)]
pub struct GuestContext {
    /// X0 to X30.
    pub x: [u64; 31],
    /// ELR_EL2: where the guest goes on.
    pub elr: u64,
    /// SPSR_EL2: with which PSTATE.
    pub spsr: u64,
    // Written by the exit path, handed out as `Exit`.
    pub(crate) esr: u64,
    pub(crate) far: u64,
    pub(crate) hpfar: u64,
}

impl GuestContext {
    /// PSTATE of a vCPU that starts: EL1h, DAIF masked.
    pub const SPSR_START: u64 = 0x3c5;

    /// A vCPU about to start at `entry` with `x0`, the rest 0: EL1, DAIF masked.
    pub const fn start(entry: u64, x0: u64) -> Self {
        let mut x = [0; 31];
        x[0] = x0;
        Self { x, elr: entry, spsr: Self::SPSR_START, esr: 0, far: 0, hpfar: 0 }
    }

    /// Why it came back last, through the door `kind`.
    #[inline]
    pub const fn exit(&self, kind: ExitKind) -> Exit {
        Exit { kind, esr: self.esr, far: self.far, hpfar: self.hpfar }
    }

    /// Xn as an instruction names it: 31 is XZR and reads 0.
    pub fn get(&self, n: usize) -> u64 {
        self.x.get(n).copied().unwrap_or(0)
    }

    /// Sets Xn as an instruction names it: 31 is XZR and ignores it.
    pub fn set(&mut self, n: usize, value: u64) {
        if let Some(x) = self.x.get_mut(n) {
            *x = value;
        }
    }
}

/// Through which door a guest came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum ExitKind {
    /// A synchronous exception; `Exit::esr` says which.
    Sync = 0,
    /// A physical IRQ is pending; it has not been acknowledged.
    Irq = 1,
    /// A physical FIQ is pending.
    Fiq = 2,
    /// An asynchronous external abort.
    SError = 3,
}

/// Why a guest came back. The syndromes are valid as the manual says for the class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// The door.
    pub kind: ExitKind,
    /// ESR_EL2 (DDI 0487, D24.2.40).
    pub esr: u64,
    /// FAR_EL2: the guest's virtual address.
    pub far: u64,
    /// HPFAR_EL2: FIPA in bits 43:4, the IPA's bits 51:12.
    pub hpfar: u64,
}

/// The stage-2 tables in force on a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stage2 {
    /// VTTBR_EL2: VMID in bits 63:48, root below; see [`tlb::vttbr`](crate::tlb::vttbr).
    pub vttbr: u64,
    /// VTCR_EL2.
    pub vtcr: u64,
}

/// HCR_EL2 bits (DDI 0487, D24.2.48).
pub mod hcr {
    /// Stage 2 in force.
    pub const VM: u64 = 1 << 0;
    /// Set/way invalidation becomes clean and invalidate.
    pub const SWIO: u64 = 1 << 1;
    /// A guest's SErrors come to EL2.
    pub const AMO: u64 = 1 << 5;
    /// Physical IRQs come to EL2.
    pub const IMO: u64 = 1 << 4;
    /// Physical FIQs come to EL2.
    pub const FMO: u64 = 1 << 3;
    /// A virtual IRQ is pending (boards without a GIC's virtual interface).
    pub const VI: u64 = 1 << 7;
    /// A virtual SError is pending.
    pub const VSE: u64 = 1 << 8;
    /// Maintenance is broadcast at least to the inner shareable domain.
    pub const BSU_INNER: u64 = 1 << 10;
    /// TLB, instruction-cache and set/way maintenance of EL1 is broadcast.
    pub const FB: u64 = 1 << 9;
    /// WFI traps.
    pub const TWI: u64 = 1 << 13;
    /// WFE traps.
    pub const TWE: u64 = 1 << 14;
    /// ID registers of group 0 trap.
    pub const TID0: u64 = 1 << 15;
    /// ID registers of group 1 trap.
    pub const TID1: u64 = 1 << 16;
    /// ID registers of group 3 (ID_*_EL1) trap.
    pub const TID3: u64 = 1 << 18;
    /// A guest's table walk that meets Device memory faults.
    pub const PTW: u64 = 1 << 2;
    /// SMC traps.
    pub const TSC: u64 = 1 << 19;
    /// Implementation-defined registers trap.
    pub const TIDCP: u64 = 1 << 20;
    /// Auxiliary control registers trap.
    pub const TACR: u64 = 1 << 21;
    /// Set/way maintenance traps.
    pub const TSW: u64 = 1 << 22;
    /// EL1 is AArch64.
    pub const RW: u64 = 1 << 31;
    /// LORegion registers trap.
    pub const TLOR: u64 = 1 << 35;
    /// RAS error records trap.
    pub const TERR: u64 = 1 << 36;
    /// Pointer-authentication keys do not trap.
    pub const APK: u64 = 1 << 40;
    /// Pointer-authentication instructions do not trap.
    pub const API: u64 = 1 << 41;
    /// GMID_EL1 traps.
    pub const TID5: u64 = 1 << 58;
}

/// Registers of EL1 and of its timers that live in the hardware while the vCPU
/// owns its core.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum El1 {
    Sctlr,
    Cpacr,
    Vbar,
    Elr,
    Spsr,
    Esr,
    Far,
    Sp,
    SpEl0,
    Tcr,
    Ttbr0,
    Ttbr1,
    Mair,
    Par,
    CntKctl,
    CntvCtl,
    CntvCval,
    CntpCtl,
    CntpCval,
}

/// The virtual GIC CPU interface's registers (IHI 0069, 12.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum Ich {
    Hcr,
    Vmcr,
    Vtr,
    Misr,
    Eisr,
    Elrsr,
    Ap0r0,
    Ap1r0,
}
