//! The MADT's cores (GICC structures, 5.2.12.14).

use arrayvec::ArrayVec;
use palisade_board::{Cpu, EnableMethod, Interrupt, MAX_CPUS, Part, Problem};

use crate::bytes::Bytes;
use crate::error::{Error, Fault, Signature};
use crate::interrupt::{trigger, wire};
use crate::notes::Notes;

/// Table 5.36: type and shortest length (ACPI 5.1, the first with an MPIDR).
pub(crate) const TYPE: u8 = 0xb;
const LENGTH: usize = 76;
/// Table 5.37: Enabled, and edge-triggered maintenance interrupt.
const ENABLED: u32 = 1;
const MAINTENANCE_EDGE: u32 = 1 << 2;
/// Affinity fields of MPIDR_EL1: Aff3 and Aff2..Aff0.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// A core as its structure says.
pub(crate) struct Core {
    pub(crate) mpidr: u64,
    enabled: bool,
    parked: bool,
    /// GICC, GICV and GICH of a GICv2; 0 where there is none.
    pub(crate) cpu: u64,
    pub(crate) virtual_cpu: u64,
    pub(crate) hypervisor: u64,
    /// Its redistributor, where it lies in no region; 0 otherwise.
    pub(crate) redistributor: u64,
    pub(crate) maintenance: Option<Interrupt>,
    /// The maintenance interrupt's number is one that the GIC does not have.
    maintenance_wrong: bool,
}

/// The cores so far.
#[derive(Default)]
pub(crate) struct Cores {
    pub(crate) list: ArrayVec<Cpu, MAX_CPUS>,
    /// What the first that is used says about the interrupt controller.
    pub(crate) first: Option<Core>,
}

impl Cores {
    /// Takes a core, or notes why it stays off. Answers it where it is used.
    pub(crate) fn add(&mut self, at: Bytes<'_>, psci: bool, notes: &mut Notes) -> Option<u64> {
        let core = notes.keep(Part::Core, one(at))?;
        // One that firmware has switched off, or that can be plugged in later, is none.
        if !core.enabled {
            return None;
        }
        let twice = self.list.iter().any(|cpu| cpu.mpidr == core.mpidr);
        if core.mpidr & !AFFINITY != 0 || twice {
            notes.add(at, Part::Core, "GICC MPIDR", Problem::Value);
            return None;
        }
        if core.maintenance_wrong && self.first.is_none() {
            notes.add(at, Part::Maintenance, "VGIC maintenance interrupt", Problem::Interrupt);
        }
        let enable = match (psci, core.parked) {
            (true, _) => EnableMethod::Psci,
            // The parking protocol is no spin table.
            (false, true) => {
                notes.add(at, Part::Core, "Parking Protocol Version", Problem::Value);
                EnableMethod::None
            }
            (false, false) => EnableMethod::None,
        };
        if self.list.try_push(Cpu { mpidr: core.mpidr, enable }).is_err() {
            notes.too_many(Signature::MADT.name(), Part::Core, MAX_CPUS);
            return None;
        }
        let redistributor = core.redistributor;
        self.first.get_or_insert(core);
        Some(redistributor)
    }
}

fn one(at: Bytes<'_>) -> Result<Core, Error> {
    if at.len() < LENGTH {
        return Err(at.error(1, "GICC length", Fault::Length(at.len() as u64)));
    }
    let flags = at.u32(12, "GICC flags")?;
    let gsiv = at.u32(56, "VGIC maintenance interrupt")?;
    let maintenance = wire(gsiv, trigger(flags & MAINTENANCE_EDGE != 0));
    Ok(Core {
        enabled: flags & ENABLED != 0,
        parked: at.u32(16, "Parking Protocol Version")? != 0,
        cpu: at.u64(32, "GICC base")?,
        virtual_cpu: at.u64(40, "GICV")?,
        hypervisor: at.u64(48, "GICH")?,
        redistributor: at.u64(60, "GICR base")?,
        mpidr: at.u64(68, "GICC MPIDR")?,
        maintenance_wrong: gsiv != 0 && maintenance.is_none(),
        maintenance,
    })
}
