//! Translation table walks (3.3.3, 13.1, 15): stage 1 through CD, stage 2 through STE, nested.

use crate::bits::{bit, field, ones};
use crate::cd::{Cd, Region};
use crate::descriptor::{self, Descriptor, Hierarchy};
use crate::driver_fault::DriverFault;
use crate::event::{Class, EventKind};
use crate::model::Model;
use crate::ste::Stage2;
use crate::tlb::{Entry, Kind, Lookup, Rights, Tag, World};

/// Why a walk ended without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkFault {
    pub kind: EventKind,
    pub stage2: bool,
    pub class: Class,
    /// IPA at stage 2, or the fetch address of an external abort.
    pub address: u64,
    /// The nature of the access that stage 2 refused to a table walk.
    pub table_read: bool,
}

impl WalkFault {
    fn stage1(kind: EventKind) -> Self {
        WalkFault { kind, stage2: false, class: Class::Input, address: 0, table_read: true }
    }

    fn stage2(kind: EventKind, ipa: u64, class: Class) -> Self {
        WalkFault { kind, stage2: true, class, address: ipa, table_read: true }
    }
}

/// What is asked of a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub write: bool,
    pub instruction: bool,
    pub privileged: bool,
    /// Rights are reported, not enforced (ATS translation requests).
    pub probe: bool,
}

impl Want {
    /// A read by the SMMU itself.
    pub const WALK: Want =
        Want { write: false, instruction: false, privileged: true, probe: false };

    fn allowed(&self, rights: &Rights) -> bool {
        if self.probe {
            return true;
        }
        match (self.write, self.instruction, self.privileged) {
            (true, _, false) => rights.write,
            (true, _, true) => rights.privileged_write,
            (false, false, false) => rights.read,
            (false, false, true) => rights.privileged_read,
            (false, true, false) => rights.execute,
            (false, true, true) => rights.privileged_execute,
        }
    }
}

/// A finished translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    pub pa: u64,
    /// The IPA on the way, or the PA where there is one stage only.
    pub middle: u64,
    /// The aligned block of addresses that one answer covers.
    pub span: u64,
    pub rights: Rights,
    pub stage2_rights: Option<Rights>,
    pub device: bool,
}

/// Stage 1 with what it depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage1 {
    pub cd: Cd,
    pub el2: bool,
    pub stage2: Option<Stage2>,
    pub vmid: u16,
}

/// A walk on its way down.
struct Step {
    table: u64,
    level: u32,
    /// The span a first table resolves is wider (concatenation) or narrower than the others.
    first: bool,
}

impl Model {
    fn stage2_tag(&self, vmid: u16) -> Tag {
        Tag { world: World::El1, vmid: self.features.stage2.then_some(vmid), asid: None }
    }

    /// Translates `ipa` by stage 2.
    pub(crate) fn stage2_walk(
        &mut self,
        config: &Stage2,
        ipa: u64,
        want: Want,
        class: Class,
    ) -> Result<Translated, WalkFault> {
        let fault = |kind| WalkFault::stage2(kind, ipa, class);
        if ipa > ones(config.input_bits) {
            return Err(fault(EventKind::Translation));
        }
        let tag = self.stage2_tag(config.vmid);
        match self.tlb.leaf(Kind::Stage2Leaf, tag, ipa) {
            Lookup::Miss => {}
            Lookup::Conflict(entry) if self.conflict(entry, ipa) => {
                return Err(fault(EventKind::TlbConflict));
            }
            Lookup::Conflict(entry) | Lookup::Hit(entry) => {
                if want.allowed(&entry.rights) || !entry.rights.write_when_dirty {
                    return self.stage2_answer(config, entry, ipa, want, class);
                }
                self.tlb.forget(Kind::Stage2Leaf, tag, ipa);
            }
        }
        let start = Step { table: config.table, level: config.start_level, first: true };
        let mut at = match self.tlb.table(Kind::Stage2Table, tag, ipa) {
            Some(entry) => Step { table: entry.output, level: entry.level + 1, first: false },
            None => start,
        };
        loop {
            let address = Self::slot(&at, ipa, config.granule, config.input_bits);
            let word = self
                .fetch(address)
                .map_err(|()| WalkFault { address, ..fault(EventKind::WalkAbort) })?;
            let decoded = self.decode(word, address, config.granule, at.level);
            match decoded {
                Descriptor::Invalid => return Err(fault(EventKind::Translation)),
                Descriptor::Table { next } => {
                    if next >> config.output_bits != 0 {
                        return Err(fault(EventKind::AddressSize));
                    }
                    let shift = descriptor::shift(config.granule, at.level);
                    let place = Place { tag, granule: config.granule, level: at.level };
                    self.remember_table(Kind::Stage2Table, place, ipa, shift, next);
                    at = Step { table: next, level: at.level + 1, first: false };
                }
                Descriptor::Leaf { output, shift } => {
                    if output >> config.output_bits != 0 {
                        return Err(fault(EventKind::AddressSize));
                    }
                    let mut word = word;
                    if !bit(word, 10) && config.update_access_flag {
                        word |= 1 << 10;
                        self.update(address, word);
                    } else if !bit(word, 10) && !config.ignore_access_flag {
                        return Err(fault(EventKind::AccessFlag));
                    }
                    let mut rights = descriptor::stage2_rights(word, config.update_dirty);
                    if want.write && !want.probe && rights.write_when_dirty {
                        word |= 1 << 7;
                        self.update(address, word);
                        rights = descriptor::stage2_rights(word, config.update_dirty);
                    }
                    // MemAttr[3:2] = 0 is Device; under FWB MemAttr[2] = 0 is (D8.6).
                    let device = if config.force_write_back {
                        !bit(word, 4)
                    } else {
                        field(word, 5, 4) == 0
                    };
                    let entry = Entry {
                        kind: Kind::Stage2Leaf,
                        tag,
                        base: ipa & !ones(shift),
                        span: 1 << shift,
                        granule: config.granule,
                        level: at.level,
                        output,
                        middle: ipa & !ones(shift),
                        rights,
                        stage2_rights: None,
                        device,
                    };
                    let entry = self.join_contiguous(entry, word);
                    self.remember(entry);
                    return self.stage2_answer(config, entry, ipa, want, class);
                }
            }
        }
    }

    fn stage2_answer(
        &mut self,
        config: &Stage2,
        entry: Entry,
        ipa: u64,
        want: Want,
        class: Class,
    ) -> Result<Translated, WalkFault> {
        let walking = class != Class::Input;
        if !want.allowed(&entry.rights) || walking && entry.device && config.protect_walks {
            let fault = WalkFault::stage2(EventKind::Permission, ipa, class);
            return Err(WalkFault { table_read: !want.write, ..fault });
        }
        Ok(Translated {
            pa: entry.output + (ipa - entry.base),
            middle: ipa,
            span: entry.span,
            rights: entry.rights,
            stage2_rights: None,
            device: entry.device,
        })
    }

    /// Translates `va` by stage 1, and by stage 2 where it is nested.
    pub(crate) fn stage1_walk(
        &mut self,
        config: &Stage1,
        va: u64,
        want: Want,
    ) -> Result<Translated, WalkFault> {
        let upper = !config.el2 && bit(va, 55);
        let region = config.cd.regions[usize::from(upper)];
        let vmid = (self.features.stage2 && !config.el2).then_some(config.vmid);
        let world = if config.el2 { World::El2 } else { World::El1 };
        let tag = Tag { world, vmid, asid: (!config.el2).then_some(config.cd.asid) };
        let ignore_top = region.is_some_and(|region| region.ignore_top_byte);
        let address = if ignore_top { ((va << 8) as i64 >> 8) as u64 } else { va };
        match self.tlb.leaf(Kind::Stage1Leaf, tag, address) {
            Lookup::Miss => {}
            Lookup::Conflict(entry) if self.conflict(entry, va) => {
                return Err(WalkFault::stage1(EventKind::TlbConflict));
            }
            Lookup::Conflict(entry) | Lookup::Hit(entry) => {
                let dirty = entry.rights.write_when_dirty
                    || entry.stage2_rights.is_some_and(|rights| rights.write_when_dirty);
                let allowed = want.allowed(&entry.rights)
                    && entry.stage2_rights.is_none_or(|rights| want.allowed(&rights));
                if allowed || !dirty {
                    return Self::stage1_answer(entry, address, want);
                }
                self.tlb.forget(Kind::Stage1Leaf, tag, address);
            }
        }
        let region = region.ok_or(WalkFault::stage1(EventKind::Translation))?;
        let outside = if upper {
            address | ones(region.input_bits) != u64::MAX
        } else {
            address > ones(region.input_bits)
        };
        if outside {
            return Err(WalkFault::stage1(EventKind::Translation));
        }
        self.stage1_descend(config, &region, tag, address, want)
    }

    fn stage1_descend(
        &mut self,
        config: &Stage1,
        region: &Region,
        tag: Tag,
        va: u64,
        want: Want,
    ) -> Result<Translated, WalkFault> {
        let granule = region.granule;
        let mut above = Hierarchy::default();
        // A table entry remembers the way, not the rights above it: skip levels only where
        // no descriptor above took rights away, which `remember_table` ensures.
        let mut at = match self.tlb.table(Kind::Stage1Table, tag, va) {
            Some(entry) => Step { table: entry.output, level: entry.level + 1, first: false },
            None => Step { table: region.table, level: region.start_level, first: true },
        };
        loop {
            let slot = Self::slot(&at, va & ones(region.input_bits), granule, region.input_bits);
            let (address, slot_ipa) = match &config.stage2 {
                Some(stage2) => {
                    let hit = self.stage2_walk(stage2, slot, Want::WALK, Class::Table)?;
                    (hit.pa, Some(slot))
                }
                None => (slot, None),
            };
            // The descriptor belongs to stage 1 however it was found: S2 = 0 (7.3.12).
            let word = self.fetch(address).map_err(|()| WalkFault {
                class: Class::Table,
                address,
                ..WalkFault::stage1(EventKind::WalkAbort)
            })?;
            match self.decode(word, address, granule, at.level) {
                Descriptor::Invalid => return Err(WalkFault::stage1(EventKind::Translation)),
                Descriptor::Table { next } => {
                    if next >> config.cd.output_bits != 0 {
                        return Err(WalkFault::stage1(EventKind::AddressSize));
                    }
                    if !region.no_hierarchy {
                        above = above.with(word);
                    }
                    if above == Hierarchy::default() {
                        let shift = descriptor::shift(granule, at.level);
                        let place = Place { tag, granule, level: at.level };
                        self.remember_table(Kind::Stage1Table, place, va, shift, next);
                    }
                    at = Step { table: next, level: at.level + 1, first: false };
                }
                Descriptor::Leaf { output, shift } => {
                    let level = at.level;
                    let place = Place { tag, granule, level };
                    let found = Found { address, slot_ipa, word, output, shift, above, place };
                    return self.stage1_leaf(config, found, va, want);
                }
            }
        }
    }

    fn stage1_leaf(
        &mut self,
        config: &Stage1,
        found: Found,
        va: u64,
        want: Want,
    ) -> Result<Translated, WalkFault> {
        let cd = &config.cd;
        let Found { address, slot_ipa, mut word, output, shift, above, place } = found;
        let Place { tag, granule, level } = place;
        if output >> cd.output_bits != 0 {
            return Err(WalkFault::stage1(EventKind::AddressSize));
        }
        if !bit(word, 10) && cd.update_access_flag {
            self.writable_slot(config, slot_ipa)?;
            word |= 1 << 10;
            self.update(address, word);
        } else if !bit(word, 10) && !cd.ignore_access_flag {
            return Err(WalkFault::stage1(EventKind::AccessFlag));
        }
        let rights_of = |word| {
            descriptor::stage1_rights(
                word,
                above,
                config.el2,
                cd.update_dirty,
                cd.write_execute_never,
                cd.privileged_access_never,
            )
        };
        let mut rights = rights_of(word);
        if want.write && !want.probe && rights.write_when_dirty {
            self.writable_slot(config, slot_ipa)?;
            word &= !(1 << 7);
            self.update(address, word);
            rights = rights_of(word);
        }
        if !want.allowed(&rights) {
            return Err(WalkFault::stage1(EventKind::Permission));
        }
        let ipa = output + (va & ones(shift));
        // nG is bit 11.
        let tag = if bit(word, 11) { tag } else { Tag { asid: None, ..tag } };
        let mut entry = Entry {
            kind: Kind::Stage1Leaf,
            tag,
            base: va & !ones(shift),
            span: 1 << shift,
            granule,
            level,
            output,
            middle: output,
            rights,
            stage2_rights: None,
            device: false,
        };
        if let Some(stage2) = &config.stage2 {
            let hit = self.stage2_walk(stage2, ipa, want, Class::Input)?;
            // Combined entries cover the smaller of the two blocks.
            let span = entry.span.min(hit.span);
            let base = va & !(span - 1);
            entry = Entry {
                base,
                span,
                output: hit.pa & !(span - 1),
                middle: ipa & !(span - 1),
                stage2_rights: Some(hit.rights),
                device: hit.device,
                ..entry
            };
        } else {
            entry = self.join_contiguous(entry, word);
        }
        self.remember(entry);
        Self::stage1_answer(entry, va, want)
    }

    /// Hardware updates of a stage 1 descriptor need stage 2 to allow the write (3.13).
    fn writable_slot(&mut self, config: &Stage1, slot: Option<u64>) -> Result<(), WalkFault> {
        if let (Some(stage2), Some(ipa)) = (&config.stage2, slot) {
            let write = Want { write: true, ..Want::WALK };
            self.stage2_walk(stage2, ipa, write, Class::Table)?;
        }
        Ok(())
    }

    fn stage1_answer(entry: Entry, va: u64, want: Want) -> Result<Translated, WalkFault> {
        let offset = va - entry.base;
        if !want.allowed(&entry.rights) {
            return Err(WalkFault::stage1(EventKind::Permission));
        }
        if entry.stage2_rights.is_some_and(|rights| !want.allowed(&rights)) {
            let ipa = entry.middle + offset;
            return Err(WalkFault::stage2(EventKind::Permission, ipa, Class::Input));
        }
        Ok(Translated {
            pa: entry.output + offset,
            middle: entry.middle + offset,
            span: entry.span,
            rights: entry.rights,
            stage2_rights: entry.stage2_rights,
            device: entry.device,
        })
    }

    /// Where the descriptor for `address` lies in the table of `at`.
    fn slot(at: &Step, address: u64, granule: u32, input_bits: u32) -> u64 {
        let shift = descriptor::shift(granule, at.level);
        let bits = if at.first { input_bits - shift } else { granule - 3 };
        at.table + ((address >> shift & ones(bits)) << 3)
    }

    fn fetch(&mut self, address: u64) -> Result<u64, ()> {
        if self.injected.aborts(address) {
            return Err(());
        }
        self.memory.read64(address).map_err(|_| ())
    }

    fn update(&mut self, address: u64, word: u64) {
        // An abort of the update leaves the flag clear: the next walk tries again.
        let _ = self.memory.write64(address, word);
    }

    fn decode(&mut self, word: u64, address: u64, granule: u32, level: u32) -> Descriptor {
        let decoded = descriptor::decode(word, granule, level);
        if descriptor::reserved(word, granule, decoded) != 0 {
            self.blame_all(vec![DriverFault::Descriptor { address, value: word }]);
        }
        decoded
    }

    /// Two entries answer: a fault below BBML 2. Says whether the transaction dies of it.
    fn conflict(&mut self, _entry: Entry, address: u64) -> bool {
        if self.features.bbml >= 2 {
            return false;
        }
        self.blame_all(vec![DriverFault::BreakBeforeMake { address }]);
        self.rng.percent(50)
    }

    fn join_contiguous(&mut self, mut entry: Entry, word: u64) -> Entry {
        if bit(word, 52) && self.rng.percent(self.temper.contiguous) {
            let run = entry.span * descriptor::contiguous_count(entry.granule, entry.level);
            let inside = entry.base & (run - 1);
            // A run whose output is not aligned to it would be a misprogrammed bit.
            if entry.output & (run - 1) == inside {
                entry.base -= inside;
                entry.output -= inside;
                entry.middle = entry.middle.wrapping_sub(inside);
                entry.span = run;
            }
        }
        entry
    }

    fn remember(&mut self, entry: Entry) {
        if self.rng.percent(self.temper.cache) {
            self.tlb.insert(entry, &mut self.rng);
        }
    }

    fn remember_table(&mut self, kind: Kind, place: Place, address: u64, shift: u32, next: u64) {
        if !self.rng.percent(self.temper.cache) {
            return;
        }
        let entry = Entry {
            kind,
            tag: place.tag,
            base: address & !ones(shift),
            span: 1 << shift,
            granule: place.granule,
            level: place.level,
            output: next,
            middle: 0,
            rights: Rights::default(),
            stage2_rights: None,
            device: false,
        };
        self.tlb.insert(entry, &mut self.rng);
    }
}

struct Place {
    tag: Tag,
    granule: u32,
    level: u32,
}

/// A stage 1 leaf as it was found.
struct Found {
    address: u64,
    slot_ipa: Option<u64>,
    word: u64,
    output: u64,
    shift: u32,
    above: Hierarchy,
    place: Place,
}
