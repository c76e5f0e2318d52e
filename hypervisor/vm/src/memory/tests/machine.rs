//! The fixture: frames, the CPUs' agent, and one IOMMU with two devices behind it.
use alloc::{boxed::Box, format, rc::Rc, sync::Arc, vec, vec::Vec};
use core::{cell::RefCell, panic::Location, sync::atomic::Ordering};

use palisade_hal::fake::{Observer, Op, Tlbi, observe};
use palisade_hal::{PhysAddr, StreamId};
use palisade_iommu::fake::FakeDriver;
use palisade_iommu::{DeviceId, DeviceInfo, Group, Iommus, Owner, Registration, StreamPolicy};
use palisade_mem::{Agent, Arena, FrameTables, Frames, Use};
use palisade_pgtable::{Registry, STAGE2_4K};

use super::super::*;

pub const MIB: u64 = 1 << 20;
pub const SHAPE: Shape = Shape { pa_bits: 44, vmid16: true, dma_bits: 44, dma_coherent: true };

/// Phandle of the IOMMU, and the streams of its two devices.
const PHANDLE: u32 = 1;
pub const STREAMS: [u32; 2] = [0x10, 0x20];

/// A machine of 32 MiB.
pub struct Machine {
    _arena: Arena,
    pub frames: Arc<Frames>,
    pub cpus: Arc<Agent>,
    pub iommus: Arc<Iommus>,
    pub driver: Arc<FakeDriver>,
}

impl Machine {
    pub fn new() -> Self {
        let arena = Arena::new(PhysAddr::new(0x8000_0000), 8192);
        let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
        let cpus = Arc::new(frames.register_agent("cpus").unwrap());
        let iommus = Arc::new(Iommus::new(4, 16));
        for (number, stream) in STREAMS.into_iter().enumerate() {
            let info = DeviceInfo {
                id: DeviceId::new(number as u32),
                name: format!("dev{number}"),
                iommu: Some(PHANDLE),
                streams: vec![StreamId::new(stream)],
                isolation: None,
            };
            iommus.add_device(info).unwrap();
        }
        let driver = FakeDriver::new();
        let agent = frames.register_agent("smmu").unwrap();
        let registration = Registration { phandle: PHANDLE, driver: driver.clone(), agent };
        iommus.register(registration).map_err(|rejected| rejected.error).unwrap();
        driver.take_calls();
        Self { _arena: arena, frames, cpus, iommus, driver }
    }

    /// Empty memory of VM 1.
    pub fn memory(&self) -> Arc<GuestMemory> {
        self.memory_of(1)
    }

    /// Empty memory of VM `index`.
    pub fn memory_of(&self, index: u16) -> Arc<GuestMemory> {
        self.try_memory(self.iommus.owners().open(index).unwrap()).unwrap()
    }

    pub fn try_memory(&self, owner: Owner) -> Result<Arc<GuestMemory>, MemoryError> {
        let (frames, cpus, iommus) = (self.frames.clone(), self.cpus.clone(), self.iommus.clone());
        GuestMemory::new(frames, cpus, iommus, owner, SHAPE, formats())
    }

    pub fn group(&self, number: u32) -> Arc<Group> {
        self.iommus.group_of(DeviceId::new(number)).unwrap()
    }

    /// Attaches device `number` to the VM's domain.
    pub fn attach(&self, number: u32, memory: &GuestMemory) -> Arc<Group> {
        let group = self.group(number);
        self.iommus.assign(&group, memory.domain(), StreamPolicy::default()).unwrap();
        group
    }
}

/// The one format that VMs use.
pub fn formats() -> &'static Registry<FrameTables> {
    let registry = Box::leak(Box::new(Registry::new()));
    registry.register(&STAGE2_4K[0]).unwrap();
    registry
}

/// What a walker finds at an IPA, read from the tables in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub pa: u64,
    pub read: bool,
    pub write: bool,
    /// Stage 2 MemAttr (DDI 0487, D8.6.6): 0..=3 is Device memory, 15 is cacheable.
    pub attributes: u64,
}

impl Machine {
    /// Walks tables of 4 KiB from level 1 on, as for an IPA of 39 bits (DDI 0487, D8.2, D8.3.1).
    pub fn walk(&self, root: PhysAddr, ipa: u64) -> Option<Leaf> {
        let mut table = root;
        for shift in [30, 21, 12] {
            let tag = self.frames.tag(table)?;
            let words = self.frames.words(table, 512, Use::Table, tag.owner())?;
            let entry = words.get((ipa >> shift & 511) as usize)?.load(Ordering::Relaxed);
            let address = entry & 0xffff_ffff_f000;
            match (entry & 3, shift) {
                (3, 21..) => table = PhysAddr::new(address),
                (1, 21..) | (3, 12) => {
                    let offset = ipa & ((1 << shift) - 1);
                    return Some(Leaf {
                        pa: address + offset,
                        read: entry & 1 << 6 != 0,
                        write: entry & 1 << 7 != 0,
                        attributes: entry >> 2 & 15,
                    });
                }
                _ => return None,
            }
        }
        None
    }

    /// What the VM's CPUs find.
    pub fn cpu_walk(&self, memory: &GuestMemory, ipa: u64) -> Option<Leaf> {
        self.walk(PhysAddr::new(memory.stage2().vttbr & 0xffff_ffff_f000), ipa)
    }

    /// What the VM's devices find.
    pub fn dma_walk(&self, memory: &GuestMemory, ipa: u64) -> Option<Leaf> {
        self.walk(memory.domain().stage_two().unwrap().table, ipa)
    }
}

/// Calls `then` with every TLB invalidation of the CPUs that `body` makes.
pub fn watching<R>(then: impl Fn(Tlbi) + 'static, body: impl FnOnce() -> R) -> R {
    struct Watcher<F>(F);
    impl<F: Fn(Tlbi)> Observer for Watcher<F> {
        fn observe(&self, op: Op, _: &'static Location<'static>) {
            if let Op::Tlbi(tlbi) = op {
                (self.0)(tlbi);
            }
        }
    }
    observe(Rc::new(Watcher(then)), body)
}

/// The TLB invalidations of the CPUs that `body` makes.
pub fn tlbis<R>(body: impl FnOnce() -> R) -> (R, Vec<Tlbi>) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    let result = watching(move |tlbi| log.borrow_mut().push(tlbi), body);
    let seen = seen.borrow().clone();
    (result, seen)
}
