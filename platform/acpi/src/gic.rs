//! The MADT's interrupt controller (5.2.12.15 to 5.2.12.18), and with it the cores.

use arrayvec::ArrayVec;
use palisade_board::{
    Cpu, Gic, Its, MAX_CPUS, MAX_ITS, MAX_REDISTRIBUTOR_REGIONS, Part, Problem, Range, Version,
};

use crate::bytes::Bytes;
use crate::cores::{self, Cores};
use crate::error::{Error, Fault, Signature};
use crate::notes::Notes;
use crate::tables::{HEAD, Tables};

/// Table 5.19: structures begin behind the local interrupt controller's address and the flags.
const FIRST: usize = HEAD + 8;
/// Table 5.20: types.
const GICD: u8 = 0xc;
const MSI_FRAME: u8 = 0xd;
const GICR: u8 = 0xe;
const ITS: u8 = 0xf;

/// Sizes that the architecture gives and the tables do not: IHI 0048, chapter 4, and IHI 0069,
/// chapter 12.
const V2_DISTRIBUTOR: u64 = 0x1000;
const V2_CPU: u64 = 0x2000;
const V2_HYPERVISOR: u64 = 0x2000;
const V2M: u64 = 0x1000;
const V3_DISTRIBUTOR: u64 = 0x1_0000;
const V3_REDISTRIBUTOR: u64 = 0x2_0000;
const V4_REDISTRIBUTOR: u64 = 0x4_0000;
const ITS_SIZE: u64 = 0x2_0000;

/// The controller's phandle; ACPI has none, so that these are made up. ITS number n of the list
/// has `FIRST_ITS + n`.
pub(crate) const PHANDLE: u32 = 1;
const FIRST_ITS: u32 = 0x100;

/// What the MADT says.
pub(crate) struct Controllers {
    pub(crate) gic: Gic,
    pub(crate) cpus: ArrayVec<Cpu, MAX_CPUS>,
    /// Identifier of each ITS, as ITS groups name it, and its phandle.
    pub(crate) its: ArrayVec<(u32, u32), MAX_ITS>,
}

#[derive(Default)]
struct Madt {
    cores: Cores,
    distributor: Option<(u64, u8)>,
    frame: Option<Range>,
    regions: ArrayVec<Range, MAX_REDISTRIBUTOR_REGIONS>,
    /// Redistributors that the cores name themselves.
    own: ArrayVec<u64, MAX_CPUS>,
    its: ArrayVec<Its, MAX_ITS>,
    ids: ArrayVec<(u32, u32), MAX_ITS>,
}

/// Reads the MADT.
///
/// # Errors
/// There is none, it cannot be divided, it has no core, or no interrupt controller that is known.
pub(crate) fn read(
    tables: &Tables<'_>,
    psci: bool,
    notes: &mut Notes,
) -> Result<Controllers, Error> {
    let table = tables.need(Signature::MADT)?;
    let mut madt = Madt::default();
    table.structures(FIRST, "interrupt controller structure", &mut |kind, at| {
        match kind {
            cores::TYPE => {
                if let Some(own) = madt.cores.add(at, psci, notes)
                    && own != 0
                {
                    // As long as the list of cores, so that there is room.
                    let _ = madt.own.try_push(own);
                }
            }
            GICD => madt.distributor(at)?,
            MSI_FRAME => madt.frame(at, notes),
            GICR => madt.region(at, notes),
            ITS => madt.translation(at, notes),
            _ => {}
        }
        Ok(())
    })?;
    if madt.cores.list.is_empty() {
        return Err(table.error(FIRST, "GICC", Fault::Missing));
    }
    let gic = madt.gic(table, notes)?;
    Ok(Controllers { gic, cpus: madt.cores.list, its: madt.ids })
}

impl Madt {
    /// Table 5.39.
    fn distributor(&mut self, at: Bytes<'_>) -> Result<(), Error> {
        let found = (at.u64(8, "GICD base")?, at.u8(20, "GIC version")?);
        if self.distributor.replace(found).is_some() {
            // 5.2.12.15: one only. Which one is meant cannot be known.
            return Err(at.error(0, "GICD", Fault::TooMany(1)));
        }
        Ok(())
    }

    /// Table 5.40: a GICv2m frame; the first counts.
    fn frame(&mut self, at: Bytes<'_>, notes: &mut Notes) {
        let base = notes.keep(Part::Messages, at.u64(8, "GIC MSI frame"));
        let range = base.and_then(|base| Range::new(base, V2M));
        self.frame = self.frame.or(range);
    }

    /// Table 5.42.
    fn region(&mut self, at: Bytes<'_>, notes: &mut Notes) {
        let range = at.u64(4, "GICR base").and_then(|base| {
            let length = at.u32(12, "GICR length")?;
            let range = Range::new(base, length.into());
            range.filter(|_| base != 0).ok_or(at.error(4, "GICR", Fault::Value(base)))
        });
        let Some(range) = notes.keep(Part::Redistributors, range) else { return };
        if self.regions.try_push(range).is_err() {
            notes.too_many(Signature::MADT.name(), Part::Redistributors, MAX_REDISTRIBUTOR_REGIONS);
        }
    }

    /// Table 5.43.
    fn translation(&mut self, at: Bytes<'_>, notes: &mut Notes) {
        let found = at.u32(4, "ITS ID").and_then(|id| {
            let base = at.u64(8, "ITS base")?;
            let range = Range::new(base, ITS_SIZE).filter(|_| base != 0);
            Ok((id, range.ok_or(at.error(8, "ITS base", Fault::Value(base)))?))
        });
        let Some((id, registers)) = notes.keep(Part::Messages, found) else { return };
        if self.ids.iter().any(|(other, _)| *other == id) {
            notes.add(at, Part::Messages, "ITS ID", Problem::Overlap);
            return;
        }
        let phandle = FIRST_ITS.saturating_add(u32::try_from(self.its.len()).unwrap_or(0));
        if self.its.try_push(Its { registers, phandle }).is_err() {
            notes.too_many(Signature::MADT.name(), Part::Messages, MAX_ITS);
            return;
        }
        let _ = self.ids.try_push((id, phandle));
    }

    fn gic(&mut self, table: Bytes<'_>, notes: &mut Notes) -> Result<Gic, Error> {
        let (base, version) = self.distributor.ok_or(table.error(FIRST, "GICD", Fault::Missing))?;
        let wrong = |what, value| table.error(FIRST, what, Fault::Value(value));
        // 5.2.12.15: 0 leaves it to be found out; a GICv3 has redistributors.
        let v3 = match version {
            0 => !self.regions.is_empty() || !self.own.is_empty(),
            2 => false,
            3 | 4 => true,
            other => return Err(wrong("GIC version", other.into())),
        };
        let size = if v3 { V3_DISTRIBUTOR } else { V2_DISTRIBUTOR };
        let distributor = Range::new(base, size).filter(|_| base != 0);
        let distributor = distributor.ok_or(wrong("GICD base", base))?;
        let version = if v3 {
            if self.regions.is_empty() {
                self.join(version, notes);
            }
            if self.regions.is_empty() {
                return Err(table.error(FIRST, "GICR", Fault::Missing));
            }
            let (redistributors, its) = (self.regions.clone(), self.its.clone());
            Version::V3 { redistributors, stride: None, its }
        } else {
            let first = self.cores.first.as_ref();
            let (cpu, hypervisor, virtual_cpu) =
                first.map_or((0, 0, 0), |core| (core.cpu, core.hypervisor, core.virtual_cpu));
            let range = |base, size| Range::new(base, size).filter(|_| base != 0);
            Version::V2 {
                cpu: range(cpu, V2_CPU).ok_or(wrong("GICC base", cpu))?,
                hypervisor: range(hypervisor, V2_HYPERVISOR),
                virtual_cpu: range(virtual_cpu, V2_CPU),
                v2m: self.frame,
            }
        };
        let maintenance = self.cores.first.as_ref().and_then(|core| core.maintenance);
        Ok(Gic { distributor, version, maintenance, phandle: PHANDLE })
    }

    /// Makes regions of the redistributors that the cores name; neighbours become one.
    fn join(&mut self, version: u8, notes: &mut Notes) {
        let size = if version == 4 { V4_REDISTRIBUTOR } else { V3_REDISTRIBUTOR };
        let mut own = self.own.clone();
        own.sort_unstable();
        for base in own {
            let joined = self.regions.last_mut().filter(|last| last.end() == base);
            let Some(range) = Range::new(base, size) else { continue };
            if let Some(last) = joined {
                *last = Range::new(last.start(), last.size().saturating_add(size)).unwrap_or(*last);
            } else if self.regions.try_push(range).is_err() {
                notes.too_many(
                    Signature::MADT.name(),
                    Part::Redistributors,
                    MAX_REDISTRIBUTOR_REGIONS,
                );
            }
        }
    }
}
