//! The memory of one VM.
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_hal::lock::{Mutex, MutexGuard, Rank};
use palisade_hal::{Iova, Ipa, PhysAddr, Vmid, guest::Stage2, tlb};
use palisade_iommu::{Domain, Iommus, Owner as IommuOwner};
use palisade_mem::{
    Agent, Block, Closed, FRAME_SHIFT, FrameError, FrameTables, Frames, Mapped, Owner, Reserve,
    Space, Use,
};
use palisade_pgtable::{
    Config, Flushed, Gather, PageTable, Prot, Registry, SplitPolicy, Unflushed,
};

use super::{
    error::MemoryError,
    map::{Kind, MemoryMap, PAGE, Region},
    quota,
    tlb::{Unused, VmTlb},
};
use crate::layout;

/// The largest block of RAM that is asked for at once: 1 GiB, a block of level 1.
const MAX_ORDER: u8 = 18;

/// What the machine's walkers can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bits of a physical address of the CPUs.
    pub pa_bits: u8,
    /// The CPUs have VMIDs of 16 bits.
    pub vmid16: bool,
    /// Bits of a physical address of the IOMMUs; the CPUs' where there is none.
    pub dma_bits: u8,
    /// The IOMMUs' walks snoop the caches.
    pub dma_coherent: bool,
}

/// What a tear-down came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum TornDown {
    /// Everything is back with the allocator.
    Released,
    /// Somebody could not prove to have forgotten: this many frames are out of use for good.
    Quarantined(u64),
}

pub(super) struct Inner {
    pub map: MemoryMap,
    ram: Mapped,
    cpu: Box<dyn PageTable>,
    pub dma: Box<dyn PageTable>,
    /// Some RAM was given up and is in neither view.
    holes: bool,
}

/// The memory of one VM: the first lock in the order VM map → group → domain → queue → frames.
pub struct GuestMemory {
    frames: Arc<Frames>,
    owner: Owner,
    cpus: Arc<Agent>,
    iommus: Arc<Iommus>,
    domain: Arc<Domain>,
    /// What its tables are taken from.
    reserve: Arc<Reserve>,
    root: PhysAddr,
    vtcr: u64,
    inner: Mutex<Option<Inner>>,
    /// Tables set aside for context tables.
    contexts: Mutex<u64>,
    /// A device may write to its RAM whatever the IOMMUs say, for good.
    exposed: AtomicBool,
}

impl GuestMemory {
    /// Empty tables for the VM `owner` of the IOMMU core, and its domain. `cpus` is the one agent
    /// that speaks for the CPUs' stage-2 TLBs; `formats` has stage 2.
    ///
    /// # Errors
    /// No memory or no VMID, or a machine that the tables do not suit.
    pub fn new(
        frames: Arc<Frames>,
        cpus: Arc<Agent>,
        iommus: Arc<Iommus>,
        owner: IommuOwner,
        shape: Shape,
        formats: &'static Registry<FrameTables>,
    ) -> Result<Arc<Self>, MemoryError> {
        let space = Space::open();
        let vm = Owner::vm(owner.index());
        let reserve = Arc::new(Reserve::new(frames.clone()));
        reserve.grow(quota::DEVICES).map_err(MemoryError::NoTables)?;
        let memory = || {
            let tables = FrameTables::in_space(frames.clone(), vm, &space, cpus.set());
            tables.from_reserve(reserve.clone())
        };
        let mut cpu_config = Config::cpu_stage2(layout::IPA_BITS, shape.pa_bits, shape.vmid16);
        let mut dma_config =
            Config::iommu_stage2(layout::IPA_BITS, shape.dma_bits, shape.dma_coherent);
        // A guest may give up a page of a block.
        cpu_config.split = SplitPolicy::BreakBeforeMake;
        dma_config.split = SplitPolicy::BreakBeforeMake;
        let cpu = formats.alloc(&cpu_config, memory())?;
        let dma = match formats.alloc(&dma_config, memory()) {
            Ok(dma) => dma,
            Err(error) => {
                forget_unused(&frames, &cpus, &space.close(), [cpu]);
                return Err(error.into());
            }
        };
        let roots = (cpu.registers().stage2().copied(), dma.registers().stage2().copied());
        let (Some(regs), Some(dma_regs)) = roots else {
            forget_unused(&frames, &cpus, &space.close(), [cpu, dma]);
            return Err(palisade_iommu::Error::Domain.into());
        };
        let (root, control) = (dma_regs.vttbr_baddr, dma_regs.packed());
        let domain = match iommus.paging_domain_in(owner, space, root, control) {
            Ok(domain) => domain,
            Err((error, space)) => {
                forget_unused(&frames, &cpus, &space.close(), [cpu, dma]);
                return Err(error.into());
            }
        };
        let ram = Mapped::new(frames.clone(), domain.scope());
        let inner = Inner { map: MemoryMap::default(), ram, cpu, dma, holes: false };
        Ok(Arc::new(Self {
            frames,
            owner: vm,
            cpus,
            iommus,
            domain,
            reserve,
            root: regs.vttbr_baddr,
            vtcr: regs.vtcr,
            inner: Mutex::new(Rank::VmMap, Some(inner)),
            contexts: Mutex::new(Rank::VmMap, quota::CONTEXTS_KNOWN),
            exposed: AtomicBool::new(false),
        }))
    }

    /// The domain that the VM's devices are attached to.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// The VM's VMID.
    pub fn vmid(&self) -> Vmid {
        self.domain.vmid().unwrap_or(Vmid::new(0))
    }

    /// What the cores' stage-2 registers must hold while the VM's vCPUs run there.
    pub fn stage2(&self) -> Stage2 {
        Stage2 { vttbr: tlb::vttbr(self.vmid(), self.root), vtcr: self.vtcr }
    }

    /// Makes every core forget whatever it holds under the VM's VMID.
    pub fn forget_translations(&self) {
        tlb::flush_vmid(self.vmid(), self.root);
    }

    /// Adds zeroed RAM, in the largest blocks that there are. `readonly` are ranges in it that
    /// nobody but the hypervisor may write; they are whole pages.
    ///
    /// # Errors
    /// Too little memory, or a bad range. What was mapped until then goes with the VM.
    pub fn add_ram(
        &self,
        ipa: Ipa,
        bytes: u64,
        readonly: &[(Ipa, u64)],
    ) -> Result<(), MemoryError> {
        MemoryMap::check(ipa, bytes, layout::IPA_BITS)?;
        for &(start, length) in readonly {
            MemoryMap::check(start, length, layout::IPA_BITS)?;
        }
        let mut guard = self.inner.lock();
        let inner = guard.as_mut().ok_or(MemoryError::Gone)?;
        // Before gigabytes are zeroed for nothing.
        let tables = quota::of_ram(bytes);
        let free = self.frames.available().saturating_sub(tables) << FRAME_SHIFT;
        if bytes > free {
            return Err(MemoryError::TooLittle(bytes, free));
        }
        self.reserve.grow(tables).map_err(MemoryError::NoTables)?;
        let (mut at, end) = (ipa.get(), ipa.get() + bytes);
        while at < end {
            let block = self.largest(at, end - at)?;
            let (pa, length) = (block.start(), block.bytes());
            if let Err(block) = inner.ram.push(block) {
                // Nobody was told of it.
                let _ = self.frames.free(block);
                let order = MAX_ORDER;
                return Err(MemoryError::NoRam(Ipa::new(at), FrameError::OutOfMemory { order }));
            }
            let mut from = at;
            while from < at + length {
                let (kind, until) = kind_at(from, at + length, readonly);
                let pa = pa.checked_add(from - at).unwrap_or(pa);
                inner.map_ram(Region { ipa: Ipa::new(from), bytes: until - from, pa, kind })?;
                from = until;
            }
            at += length;
        }
        Ok(())
    }

    /// The largest zeroed block for `left` bytes at `at` that the machine can give.
    fn largest(&self, at: u64, left: u64) -> Result<Block, MemoryError> {
        let fits = (left >> FRAME_SHIFT).checked_ilog2().unwrap_or(0) as u8;
        let aligned = (at >> FRAME_SHIFT).trailing_zeros().min(63) as u8;
        let mut order = MAX_ORDER.min(fits).min(aligned);
        loop {
            match self.frames.alloc_zeroed(order, Use::Guest, self.owner) {
                Ok(block) => return Ok(block),
                Err(error) if order == 0 => return Err(MemoryError::NoRam(Ipa::new(at), error)),
                Err(_) => order -= 1,
            }
        }
    }

    /// Maps device registers into the CPU view.
    ///
    /// # Errors
    /// A bad range, or something is there.
    pub fn map_device(&self, ipa: Ipa, pa: PhysAddr, bytes: u64) -> Result<(), MemoryError> {
        MemoryMap::check(ipa, bytes, layout::IPA_BITS)?;
        let mut guard = self.inner.lock();
        let inner = guard.as_mut().ok_or(MemoryError::Gone)?;
        inner.map.add(Region { ipa, bytes, pa, kind: Kind::Device })?;
        let mapped = inner.cpu.map_range(Iova::new(ipa.get()), pa, bytes, Prot::MMIO);
        if mapped.is_err() {
            inner.map.remove(ipa, bytes, Kind::Device);
        }
        Ok(mapped?)
    }

    /// Takes device registers out of the CPU view; no core reaches them when it returns.
    ///
    /// # Errors
    /// They were not mapped so, or somebody did not forget.
    pub fn unmap_device(&self, ipa: Ipa, bytes: u64) -> Result<(), MemoryError> {
        let mut guard = self.inner.lock();
        let inner = guard.as_mut().ok_or(MemoryError::Gone)?;
        inner.map.remove(ipa, bytes, Kind::Device).ok_or(MemoryError::NotMapped(ipa))?;
        let tlb = self.tlb();
        let mut gather = Gather::new(&tlb);
        let unmapped = inner.cpu.unmap_range(Iova::new(ipa.get()), bytes, &mut gather);
        self.finish(gather)?;
        unmapped?;
        Ok(())
    }

    /// Maps the doorbell page of a translation service into the DMA view.
    ///
    /// # Errors
    /// A bad range, or something is there.
    pub fn map_doorbell(&self, ipa: Ipa, pa: PhysAddr) -> Result<(), MemoryError> {
        let mut guard = self.inner.lock();
        let inner = guard.as_mut().ok_or(MemoryError::Gone)?;
        let region = Region { ipa, bytes: PAGE, pa, kind: Kind::Doorbell };
        inner.map.add(region)?;
        let prot = Prot::WRITE | Prot::DEVICE;
        Ok(inner.dma.map_range(Iova::new(ipa.get()), pa, PAGE, prot)?)
    }

    /// Takes a range of RAM out of both views: the guest gave it up. The memory stays the VM's
    /// until its end, so that nobody else ever sees what was in it.
    ///
    /// # Errors
    /// It is not all RAM, or somebody did not forget.
    pub fn give_up(&self, ipa: Ipa, bytes: u64) -> Result<(), MemoryError> {
        MemoryMap::check(ipa, bytes, layout::IPA_BITS)?;
        let mut guard = self.inner.lock();
        let inner = guard.as_mut().ok_or(MemoryError::Gone)?;
        let mut at = ipa.get();
        while at < ipa.get() + bytes {
            let region = inner.map.find(Ipa::new(at)).filter(|region| region.kind.is_ram());
            at = region.ok_or(MemoryError::NotMapped(Ipa::new(at)))?.end();
        }
        let tlb = self.tlb();
        let mut gather = Gather::new(&tlb);
        inner.holes = true;
        let iova = Iova::new(ipa.get());
        // The devices first: what they hold of the guest's, its CPUs may still clean up after.
        let dma = inner.dma.unmap_range(iova, bytes, &mut gather);
        let both = dma.and_then(|_| inner.cpu.unmap_range(iova, bytes, &mut gather));
        self.finish(gather)?;
        both?;
        Ok(())
    }

    /// Where an address of the guest's RAM is, as the CPU view has it.
    pub fn translate(&self, ipa: Ipa) -> Option<PhysAddr> {
        let guard = self.inner.lock();
        let inner = guard.as_ref()?;
        inner.map.find(ipa).filter(|region| region.kind.is_ram())?;
        inner.cpu.iova_to_phys(Iova::new(ipa.get()))
    }

    /// Whether all of a range is RAM of the guest.
    pub fn is_ram(&self, ipa: Ipa, bytes: u64) -> bool {
        self.each_page(ipa, bytes, |_, _, _| true)
    }

    /// Whether all of a range is RAM that the guest may write.
    pub fn is_writable(&self, ipa: Ipa, bytes: u64) -> bool {
        self.is_ram(ipa, bytes) && {
            let guard = self.inner.lock();
            let end = ipa.get().saturating_add(bytes);
            let readonly = |region: &Region| {
                region.kind == Kind::ReadOnlyRam
                    && region.ipa.get() < end
                    && ipa.get() < region.end()
            };
            guard.as_ref().is_some_and(|inner| !inner.map.regions().iter().any(readonly))
        }
    }

    /// Copies out of the guest's RAM; false if not all of it is RAM.
    pub fn read(&self, ipa: Ipa, to: &mut [u8]) -> bool {
        self.each_page(ipa, to.len() as u64, |pa, from, until| {
            let part = to.get_mut(from..until);
            part.is_some_and(|part| self.frames.copy_from_guest(pa, part, self.owner).is_ok())
        })
    }

    /// Copies into the guest's RAM, read-only ranges included, clean to the point of coherency;
    /// false if not all of it is RAM.
    pub fn write(&self, ipa: Ipa, bytes: &[u8]) -> bool {
        self.each_page(ipa, bytes.len() as u64, |pa, from, until| {
            let part = bytes.get(from..until);
            part.is_some_and(|part| self.frames.copy_to_guest(pa, part, self.owner).is_ok())
        })
    }

    /// Calls `body` for each page's part of a range: where it is, and which bytes of the range.
    fn each_page(
        &self,
        ipa: Ipa,
        bytes: u64,
        mut body: impl FnMut(PhysAddr, usize, usize) -> bool,
    ) -> bool {
        let Some(end) = ipa.get().checked_add(bytes) else { return false };
        let guard = self.inner.lock();
        let Some(inner) = guard.as_ref() else { return false };
        let mut at = ipa.get();
        while at < end {
            let Some(region) = inner.map.find(Ipa::new(at)).filter(|r| r.kind.is_ram()) else {
                return false;
            };
            // What was given up is in the map still, and in no table.
            let Some(pa) = inner.cpu.iova_to_phys(Iova::new(at)) else { return false };
            let page = (at | (PAGE - 1)) + 1;
            let until = end.min(region.end()).min(page);
            let base = ipa.get();
            if !body(pa, (at - base) as usize, (until - base) as usize) {
                return false;
            }
            at = until;
        }
        true
    }

    /// The regions, for the report.
    pub fn regions(&self) -> Vec<Region> {
        self.inner.lock().as_ref().map_or(Vec::new(), |inner| inner.map.regions().to_vec())
    }

    /// Zeroes all RAM, before the VM starts anew, and gives it back what it had given up.
    ///
    /// # Errors
    /// Its tables have no room, or the VM was torn down.
    pub fn wipe(&self) -> Result<(), MemoryError> {
        let mut guard = self.inner.lock();
        let inner = guard.as_mut().ok_or(MemoryError::Gone)?;
        for region in inner.map.regions().iter().filter(|region| region.kind.is_ram()) {
            let zeroed = self.frames.zero_guest(region.pa, region.bytes as usize, self.owner);
            zeroed.map_err(|error| MemoryError::NoRam(region.ipa, error))?;
        }
        if core::mem::take(&mut inner.holes) {
            inner.fill_holes()?;
        }
        Ok(())
    }

    /// Sets tables aside for the context tables of all `streams` streams of the VM's devices. What
    /// was set aside for devices that have left stays for the next ones.
    ///
    /// # Errors
    /// [`MemoryError::NoTables`].
    pub fn set_aside_contexts(&self, streams: u64) -> Result<(), MemoryError> {
        let mut known = self.contexts.lock();
        let wanted = quota::of_contexts(streams).max(*known);
        self.reserve.grow(wanted.saturating_sub(*known)).map_err(MemoryError::NoTables)?;
        *known = wanted;
        Ok(())
    }

    /// Notes that a device which no IOMMU confines was not proven idle: nothing keeps it from the
    /// VM's RAM, which nobody else gets any more.
    pub fn expose(&self) {
        self.exposed.store(true, Ordering::Release);
    }

    /// Takes everything apart. No vCPU runs any more. Its domain is closed first: where a device
    /// is attached still, or a detach was not confirmed, nothing is released.
    pub fn tear_down(&self) -> TornDown {
        let Some(inner) = self.inner.lock().take() else { return TornDown::Released };
        let Inner { ram, cpu, dma, .. } = inner;
        let index = self.owner.vm_index().unwrap_or(u16::MAX);
        let closed = self.domain.close();
        if let Err(error) = &closed {
            log::error!("VM {index}: its memory is quarantined: {error}");
        }
        // Closed, no IOMMU holds anything of it: detaching a device made its IOMMU forget.
        let ram = ram.detach(self.cpus.set());
        let tlb = self.tlb();
        let mut gather = Gather::new(&tlb);
        cpu.free(&mut gather);
        dma.free(&mut gather);
        let (tables, mut proof) = match gather.finish() {
            Ok(Some(flushed)) => (flushed.tables, Some(flushed.proof)),
            Ok(None) => (None, None),
            Err(unflushed) => (unflushed.tables, None),
        };
        if let (Some(proof), Ok(closed)) = (&mut proof, &closed) {
            proof.close(closed);
        }
        let exposed = self.exposed.load(Ordering::Acquire);
        if exposed {
            log::error!("VM {index}: its RAM is quarantined: a device may still write to it");
        }
        let release = |list, proof| self.frames.release_or_quarantine(list, proof);
        let ram = ram.map_or(0, |list| release(list, proof.as_ref().filter(|_| !exposed)));
        let lost = ram + tables.map_or(0, |list| release(list, proof.as_ref()));
        // Still attached somewhere: the VMID stays taken.
        if let Err(error) = self.iommus.retire(&self.domain, |_| proof.is_some()) {
            log::error!("VM {index}: its domain stays: {error}");
        }
        match lost {
            0 => TornDown::Released,
            frames => TornDown::Quarantined(frames),
        }
    }

    /// The VM's map lock.
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Inner>> {
        self.inner.lock()
    }

    pub(super) fn tlb(&self) -> VmTlb<'_> {
        VmTlb {
            cpus: &self.cpus,
            vmid: self.vmid(),
            root: self.root,
            domain: &self.domain,
            queued: Cell::new(None),
        }
    }

    /// Finishes a gather; tables go back against its proof, or into quarantine.
    pub(super) fn finish(&self, gather: Gather<'_>) -> Result<(), MemoryError> {
        let (tables, proof) = match gather.finish() {
            Ok(Some(Flushed { tables, proof })) => (tables, Ok(Some(proof))),
            Ok(None) => (None, Ok(None)),
            Err(Unflushed { tables, error }) => (tables, Err(error)),
        };
        if let Some(tables) = tables {
            self.frames.release_or_quarantine(tables, proof.as_ref().ok().and_then(Option::as_ref));
        }
        Ok(proof.map(drop)?)
    }
}

impl Inner {
    fn map_ram(&mut self, region: Region) -> Result<(), MemoryError> {
        self.map.add(region)?;
        self.map_views(region)
    }

    /// Maps RAM into both views.
    fn map_views(&mut self, region: Region) -> Result<(), MemoryError> {
        let (cpu, dma) = match region.kind {
            Kind::ReadOnlyRam => (Prot::RAM - Prot::WRITE, Prot::MEMORY - Prot::WRITE),
            _ => (Prot::RAM, Prot::MEMORY),
        };
        let iova = Iova::new(region.ipa.get());
        self.cpu.map_range(iova, region.pa, region.bytes, cpu)?;
        self.dma.map_range(iova, region.pa, region.bytes, dma)?;
        Ok(())
    }

    /// Maps all RAM that is in neither view.
    fn fill_holes(&mut self) -> Result<(), MemoryError> {
        for index in 0..self.map.regions().len() {
            let Some(region) = self.map.regions().get(index).copied() else { break };
            if !region.kind.is_ram() {
                continue;
            }
            for offset in (0..region.bytes).step_by(PAGE as usize) {
                let ipa = Ipa::new(region.ipa.get() + offset);
                if self.cpu.iova_to_phys(Iova::new(ipa.get())).is_none() {
                    let pa = region.pa.checked_add(offset).unwrap_or(region.pa);
                    self.map_views(Region { ipa, bytes: PAGE, pa, kind: region.kind })?;
                }
            }
        }
        Ok(())
    }
}

/// What the RAM at `from` is, and up to where, but no farther than `end`.
fn kind_at(from: u64, end: u64, readonly: &[(Ipa, u64)]) -> (Kind, u64) {
    let mut until = end;
    for &(start, bytes) in readonly {
        let (start, stop) = (start.get(), start.get().saturating_add(bytes));
        if (start..stop).contains(&from) {
            return (Kind::ReadOnlyRam, stop.min(end));
        }
        if start > from {
            until = until.min(start);
        }
    }
    (Kind::Ram, until)
}

/// Gives tables back that no walker was ever told of.
fn forget_unused<const N: usize>(
    frames: &Frames,
    cpus: &Agent,
    closed: &Closed,
    tables: [Box<dyn PageTable>; N],
) {
    let tlb = Unused { cpus, scope: closed.scope() };
    let mut gather = Gather::new(&tlb);
    tables.into_iter().for_each(|table| table.free(&mut gather));
    if let Ok(Some(Flushed { mut proof, tables: Some(tables) })) = gather.finish() {
        proof.close(closed);
        frames.release_or_quarantine(tables, Some(&proof));
    }
}
