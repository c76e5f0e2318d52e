//! Sharing address spaces: a guest's calls, from their registers to the driver's commands, with
//! every check on the way.

use std::sync::{Arc, Mutex};

use palisade_abi::{BindFlags, INVALIDATION_BYTES, InvalidationRecord, Status, call};
use palisade_hal::mmio::Mmio;
use palisade_hal::{Ipa, PhysAddr, StreamId};
use palisade_iommu::{DeviceId, DeviceInfo, Iommus, PhysicalView, Registration, StreamPolicy};
use palisade_mem::{Arena, Frames};
use palisade_smmuv3::{Options, REGISTER_BYTES, Smmu};
use palisade_vm::hypercall::{GuestRam, Kept, OutsideRam, Service, ServiceDevice};

use crate::measured::palisade_measured_region as region;
use crate::smmu::{Minimal, Seen, Still};

const RAM: u64 = 0x4000_0000;
const RAM_BYTES: u64 = 1 << 20;
/// 39 bits in 4 KiB pages, cacheable walks, 40 bits out.
const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 32;
const DEVICE: u64 = 8;
const STREAM: u32 = 8;
/// Substreams, by bits and in number.
const BITS: u64 = 5;
const COUNT: u64 = 1 << BITS;
const VA: u64 = 0x20_0000_0000;
const PAGE: u64 = 4096;

/// A guest's RAM without a guest.
struct Ram(Mutex<Vec<u8>>);

impl Ram {
    fn range(start: Ipa, bytes: usize) -> Result<std::ops::Range<usize>, OutsideRam> {
        let offset = start.get().checked_sub(RAM).ok_or(OutsideRam(start))?;
        let end = offset.checked_add(bytes as u64).filter(|&end| end <= RAM_BYTES);
        Ok(offset as usize..end.ok_or(OutsideRam(start))? as usize)
    }
}

impl GuestRam for Ram {
    fn contains(&self, start: Ipa, bytes: u64) -> bool {
        Self::range(start, bytes as usize).is_ok()
    }
    fn read(&self, start: Ipa, to: &mut [u8]) -> Result<(), OutsideRam> {
        let range = Self::range(start, to.len())?;
        let ram = self.0.lock().map_err(|_| OutsideRam(start))?;
        to.copy_from_slice(ram.get(range).ok_or(OutsideRam(start))?);
        Ok(())
    }
    fn write(&self, start: Ipa, from: &[u8]) -> Result<(), OutsideRam> {
        let range = Self::range(start, from.len())?;
        let mut ram = self.0.lock().map_err(|_| OutsideRam(start))?;
        ram.get_mut(range).ok_or(OutsideRam(start))?.copy_from_slice(from);
        Ok(())
    }
    // Its tables are somebody else's test.
    fn give_up(&self, start: Ipa, _bytes: u64) -> Result<(), Kept> {
        Err(OutsideRam(start).into())
    }
}

/// A VM with one device behind a context table.
struct Guest {
    service: Service,
    smmu: Arc<Minimal>,
    ram: Arc<Ram>,
    _arena: Arena,
}

impl Guest {
    fn new() -> Option<Self> {
        let arena = Arena::new(PhysAddr::new(0x8000_0000), 4096);
        let frames = Frames::new(arena.map(), &[arena.range()]).ok()?;
        let smmu = Minimal::new(frames.clone());
        let mmio = Mmio::fake(smmu.clone(), REGISTER_BYTES);
        let driver = Smmu::bring_up(mmio, &frames, Still, Options::default()).ok()?;
        let iommus = Arc::new(Iommus::new(1, 16));
        let id = DeviceId::new(STREAM);
        let streams = vec![StreamId::new(STREAM)];
        let info = DeviceInfo {
            id,
            name: "device".into(),
            iommu: Some(1),
            streams: streams.clone(),
            isolation: None,
        };
        iommus.add_device(info).ok()?;
        let agent = frames.register_agent("core").ok()?;
        iommus.register(Registration { phandle: 1, driver: Arc::new(driver), agent }).ok()?;
        let owner = iommus.owners().open(0).ok()?;
        // T0SZ 24 (40 bits), SL0 1, write-back inner shareable, 4K, PS 4 (44 bits).
        let domain = iommus.paging_domain(owner, PhysAddr::new(0x9000_0000), 0x4_3558).ok()?;
        let group = iommus.group_of(id).ok()?;
        let policy = StreamPolicy::default();
        iommus.assign(&group, &domain, policy).ok()?;
        let ram = Arc::new(Ram(Mutex::new(vec![0; RAM_BYTES as usize])));
        let view = Arc::new(PhysicalView);
        let service = Service::new(iommus, owner, ram.clone(), view, 39, 16);
        service.add_device(ServiceDevice { number: DEVICE as u32, group, streams, policy });
        let guest = Self { service, smmu, ram, _arena: arena };
        guest.call(call::CONTEXTS_ENABLE, [DEVICE, BITS, 0, 0, 0, 0]);
        Some(guest)
    }

    #[inline(never)]
    fn call(&self, function: u32, arguments: [u64; 6]) {
        let [status, ..] = self.service.handle(function, arguments);
        assert_eq!(Status::from_register(status), Some(Status::Success));
    }

    /// Binds a substream to the address space with this ASID.
    fn bind(&self, substream: u64, asid: u64, flags: u64) {
        let root = RAM + asid * PAGE;
        self.call(call::BIND, [DEVICE, substream, root, TCR, 0xff, asid | flags]);
    }

    /// Binds every substream, each to an address space of its own.
    fn bind_all(&self) {
        (0..COUNT).for_each(|substream| self.bind(substream, substream + 1, 0));
    }
}

/// What one operation took besides instructions.
pub struct Done {
    /// How often it was done.
    pub units: u64,
    /// What the SMMU saw of all of them.
    pub seen: Seen,
}

/// Sets up, runs the region, and answers what was done. `None` for an unknown name.
pub fn run(name: &str) -> Option<Done> {
    let guest = Guest::new()?;
    let mut before = guest.smmu.seen();
    let mut measure = |units: u64, body: &mut dyn FnMut()| {
        before = guest.smmu.seen();
        region(body);
        units
    };
    let units = match name {
        "sva_bind" => measure(COUNT, &mut || guest.bind_all()),
        "sva_rebind" => {
            guest.bind_all();
            let other = |substream: u64| substream + 1 + COUNT;
            measure(COUNT, &mut || {
                (0..COUNT).for_each(|one| guest.bind(one, other(one), BindFlags::REBIND));
            })
        }
        "sva_unbind" => {
            guest.bind_all();
            measure(COUNT, &mut || {
                (0..COUNT).for_each(|one| guest.call(call::UNBIND, [DEVICE, one, 0, 0, 0, 0]));
            })
        }
        "sva_invalidate_page" => invalidate(&guest, PAGE, PAGE, &mut measure),
        "sva_invalidate_range_2m" => invalidate(&guest, 1 << 21, 0, &mut measure),
        "sva_invalidate_range_1g" => invalidate(&guest, 1 << 30, 0, &mut measure),
        "sva_invalidate_batch_of_64" => {
            guest.bind_all();
            for index in 0..call::MAX_BATCH {
                let start = VA + index * 2 * PAGE;
                let record = InvalidationRecord { asid: 1, start, end: start + PAGE, leaf: PAGE };
                let at = Ipa::new(RAM + index * INVALIDATION_BYTES as u64);
                guest.ram.write(at, &record.to_bytes()).ok()?;
            }
            let batch = [RAM, call::MAX_BATCH, 0, 0, 0, 0];
            measure(1, &mut || guest.call(call::INVALIDATE_BATCH, batch))
        }
        _ => return None,
    };
    let after = guest.smmu.seen();
    let seen = Seen {
        commands: after.commands - before.commands,
        syncs: after.syncs - before.syncs,
        prod_writes: after.prod_writes - before.prod_writes,
        accesses: after.accesses - before.accesses,
    };
    Some(Done { units, seen })
}

fn invalidate(
    guest: &Guest,
    bytes: u64,
    leaf: u64,
    measure: &mut dyn FnMut(u64, &mut dyn FnMut()) -> u64,
) -> u64 {
    guest.bind_all();
    measure(COUNT, &mut || {
        for asid in 1..=COUNT {
            guest.call(call::INVALIDATE, [asid, VA, VA + bytes, leaf, 0, 0]);
        }
    })
}
