//! PCIe hosts and SMMUs: MCFG and IORT together.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use palisade_board::{
    IdMap, IdMapEntry, Interrupt, MAX_PCIE, MAX_RESERVED, MAX_SMMUS, Part, PcieHost, Problem,
    Range, Reservation, Smmu, Trigger,
};

use crate::error::{Error, Fault, Signature};
use crate::interrupt::wire;
use crate::iort::{Iort, Node, NodeKind, SmmuNode};
use crate::map::{self, Line, join, lines, without};
use crate::mcfg::{self, Allocation};
use crate::memory::reserve;
use crate::notes::Notes;
use crate::tables::Tables;

/// SMMU number n of the list has `FIRST_SMMU + n`; ACPI has no phandles.
const FIRST_SMMU: u32 = 0x200;
/// Register pages 0 and 1 (IHI 0070, 6.1).
const SMMU_SIZE: u64 = 0x2_0000;
/// DEN0049, table 9: an SMMUv3 as the architecture says, and HiSilicon's, which is one.
const DRIVEN: [u32; 2] = [0, 1];

/// What leads to where.
pub(crate) struct Topology<'a> {
    iort: Option<Iort<'a>>,
    /// Offset of each SMMU's node, its phandle, and its way to the ITSs.
    known: Vec<(u32, u32, Vec<Line>)>,
    /// StreamIDs of an SMMU's node that firmware keeps: node, first, one past the last.
    kept: Vec<(u32, u32, u64)>,
    /// ITS identifiers and phandles.
    its: Vec<(u32, u32)>,
    pub(crate) smmus: Vec<Smmu>,
}

impl<'a> Topology<'a> {
    /// Reads the IORT; what it keeps of the memory goes to `reserved`.
    ///
    /// # Errors
    /// It is damaged, or there is more than can be kept: SMMUs that cannot be made to abort, or
    /// memory that a device accesses.
    pub(crate) fn new(
        tables: &Tables<'a>,
        its: &[(u32, u32)],
        reserved: &mut ArrayVec<Reservation, MAX_RESERVED>,
        notes: &mut Notes,
    ) -> Result<Self, Error> {
        let mut topology = Self {
            iort: None,
            known: Vec::new(),
            kept: Vec::new(),
            its: its.to_vec(),
            smmus: Vec::new(),
        };
        let Some(iort) = Iort::read(tables)? else { return Ok(topology) };
        for node in &iort.nodes {
            match &node.kind {
                NodeKind::Smmu(smmu) => topology.smmu(node, smmu, notes)?,
                NodeKind::OldSmmu => {
                    notes.add(node.at, Part::SmmuRegisters, "SMMUv1 or SMMUv2", Problem::Value);
                }
                NodeKind::Reserved(memory) => {
                    for range in &memory.ranges {
                        let kept = Reservation { range: *range, no_map: true };
                        if !reserve(reserved, kept) {
                            let fault = Fault::TooMany(MAX_RESERVED);
                            return Err(node.at.error(20, "RMR memory range", fault));
                        }
                    }
                    topology.kept.extend(node.mappings.iter().map(|mapping| {
                        let count = if mapping.single { 0 } else { mapping.count };
                        let end = u64::from(mapping.output).saturating_add(count.into());
                        (mapping.to, mapping.output, end.saturating_add(1))
                    }));
                }
                _ => {}
            }
        }
        topology.iort = Some(iort);
        Ok(topology)
    }

    fn smmu(&mut self, node: &Node<'_>, smmu: &SmmuNode, notes: &mut Notes) -> Result<(), Error> {
        let registers = Range::new(smmu.base, SMMU_SIZE);
        let usable = smmu.base != 0 && smmu.base.is_multiple_of(0x1_0000);
        let Some(registers) = registers.filter(|_| usable) else {
            notes.add(node.at, Part::SmmuRegisters, "SMMUv3 base", Problem::Value);
            return Ok(());
        };
        // ThunderX2's has its page 1 elsewhere, and others may as well.
        if !DRIVEN.contains(&smmu.model) {
            notes.add(node.at, Part::SmmuRegisters, "SMMUv3 model", Problem::Value);
            return Ok(());
        }
        if self.smmus.iter().any(|other| other.registers.overlaps(&registers)) {
            notes.add(node.at, Part::Smmu, "SMMUv3 base", Problem::Overlap);
            return Ok(());
        }
        if self.smmus.len() >= MAX_SMMUS {
            return Err(node.at.error(0, "SMMUv3", Fault::TooMany(MAX_SMMUS)));
        }
        let count = u32::try_from(self.smmus.len()).unwrap_or(0);
        let phandle = FIRST_SMMU.saturating_add(count);
        let mut gsiv = |number: u32, what| {
            // IHI 0070, 3.18: wired interrupts are edges.
            let found: Option<Interrupt> = wire(number, Trigger::Edge);
            if number != 0 && found.is_none() {
                notes.add(node.at, Part::SmmuInterrupt, what, Problem::Interrupt);
            }
            found
        };
        let (eventq, priq) = (gsiv(smmu.event, "Event"), gsiv(smmu.pri, "PRI"));
        let (cmdq_sync, gerror) = (gsiv(smmu.sync, "Sync"), gsiv(smmu.gerror, "GERR"));
        let coherent = smmu.coherent;
        let combined = None;
        let smmu = Smmu { phandle, registers, eventq, priq, cmdq_sync, gerror, combined, coherent };
        self.smmus.push(smmu);
        let onward = lines(node, Part::PcieMessages, notes);
        self.known.push((node.at.offset(), phandle, onward));
        Ok(())
    }

    /// The hosts of the MCFG.
    pub(crate) fn hosts(&self, tables: &Tables<'_>, notes: &mut Notes) -> Vec<PcieHost> {
        let mut hosts: Vec<PcieHost> = Vec::new();
        mcfg::allocations(tables, &mut |found| {
            let Some(found) = notes.keep(Part::PcieHost, found) else { return };
            // Every function's number begins with its segment, so that no two hosts may share it.
            if hosts.iter().any(|host| host.segment == found.segment) {
                notes.add(found.at, Part::PcieHost, "segment", Problem::Overlap);
                return;
            }
            if hosts.len() >= MAX_PCIE {
                notes.too_many(Signature::MCFG.name(), Part::PcieHost, MAX_PCIE);
                return;
            }
            hosts.push(self.host(&found, notes));
        });
        hosts
    }

    fn host(&self, found: &Allocation<'_>, notes: &mut Notes) -> PcieHost {
        let mut host = PcieHost {
            ecam: found.ecam,
            segment: found.segment,
            first_bus: found.buses.0,
            last_bus: found.buses.1,
            windows: ArrayVec::new(),
            interrupt_mask: (u32::MAX, u32::MAX),
            interrupt_map: ArrayVec::new(),
            iommu_map: IdMap::default(),
            msi_map: IdMap::default(),
            coherent: false,
            // Without AML nothing else can be done, and the IORT knows these numbers only.
            keep: true,
        };
        let Some(iort) = &self.iort else { return host };
        let roots = iort.nodes.iter().filter_map(|node| match node.kind {
            NodeKind::Root(root) if root.segment == u32::from(found.segment) => Some((node, root)),
            _ => None,
        });
        let roots: Vec<_> = roots.collect();
        match roots.as_slice() {
            [(node, root)] => {
                host.coherent = root.coherent;
                self.maps(iort, node, &mut host, notes);
            }
            [] => notes.add(found.at, Part::PcieStreams, "segment", Problem::Missing),
            // Which of them a function belongs to cannot be known.
            _ => notes.add(found.at, Part::PcieStreams, "segment", Problem::Overlap),
        }
        host
    }

    fn maps(&self, iort: &Iort<'_>, node: &Node<'_>, host: &mut PcieHost, notes: &mut Notes) {
        let mut ways = lines(node, Part::PcieStreams, notes);
        let all = ways.clone();
        for (to, from, end) in &self.kept {
            ways = without(&ways, *to, *from, *end);
        }
        if ways != all {
            notes.add(node.at, Part::PcieStreams, "RMR", Problem::Reserved);
        }
        let line = |way: &Line, controller| IdMapEntry {
            input: way.input,
            controller,
            output: way.output,
            length: way.length,
        };
        for way in &ways {
            match iort.at(way.to).map(|node| &node.kind) {
                Some(NodeKind::ItsGroup(ids)) => {
                    if let Some(its) = self.its(ids) {
                        let (map, part) = (&mut host.msi_map, Part::PcieMessages);
                        map::push(map, line(way, its), part, notes);
                    }
                }
                Some(NodeKind::Smmu(_)) => {
                    let known = self.known.iter().find(|(offset, ..)| *offset == way.to);
                    // One that is not driven was noted; its streams are nobody's.
                    let Some((_, phandle, onward)) = known else { continue };
                    let (map, part) = (&mut host.iommu_map, Part::PcieStreams);
                    map::push(map, line(way, *phandle), part, notes);
                    for joined in onward.iter().filter_map(|inner| join(way, inner)) {
                        let group = iort.at(joined.to).map(|node| &node.kind);
                        if let Some(NodeKind::ItsGroup(ids)) = group
                            && let Some(its) = self.its(ids)
                        {
                            let (map, part) = (&mut host.msi_map, Part::PcieMessages);
                            map::push(map, line(&joined, its), part, notes);
                        }
                    }
                }
                _ => notes.add(node.at, Part::PcieStreams, "ID mapping", Problem::Phandle),
            }
        }
    }

    /// The phandle of the first ITS of a group that the MADT knows.
    fn its(&self, ids: &[u32]) -> Option<u32> {
        let known = |id: &u32| self.its.iter().find(|(other, _)| other == id);
        ids.iter().find_map(known).map(|(_, phandle)| *phandle)
    }
}
