//! One VM with two devices beside another VM's, behind a fake IOMMU.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use palisade_gic::Version;
use palisade_hal::{Ipa, PhysAddr, StreamId, SubstreamId};
use palisade_iommu::fake::{self, FakeDriver, Reach};
use palisade_iommu::{DeviceId, DeviceInfo, Footprint, Iommus, Owner, PhysicalView, StreamPolicy};
use palisade_vm::hypercall::{
    GuestRam, Kept, OutsideRam, Service, ServiceDevice, ServiceFootprint,
};
use palisade_vm::smmu::{Identity, Lines, SmmuConfig, SmmuDevice};
use palisade_vm::vgic::Vgic;

/// Where the VM's RAM starts.
pub(super) const RAM: u64 = 0x4000_0000;
/// How much of it there is.
pub(super) const BYTES: u64 = 0x1_0000;
/// Stage-2 roots of the VM and of the other.
const OURS: u64 = 0x9000_0000;
const THEIRS: u64 = 0xa000_0000;
const STREAMS: [(u32, Option<u32>); 3] = [(0x10, Some(8)), (0x20, Some(16)), (0x30, None)];

/// What the guest's own SMMU is: two-level tables, little-endian, no stalls, messages, coherent;
/// queues of 2^8 and 2^7, 16 bits of StreamIDs; ranges; 40 bits out (6.3.1 to 6.3.6).
const IDENTITY: Identity =
    Identity { idr: [0x0940_301a, 8 << 21 | 7 << 16 | 16, 0, 1 << 10, 0, 0x72], aidr: 2 };

/// The VM's RAM; another vCPU of it writes after every read.
#[derive(Default)]
pub(super) struct Ram(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    bytes: Vec<u8>,
    /// Which byte of what was read changes, and into what.
    hostile: VecDeque<(u8, u8)>,
}

impl Ram {
    fn range(start: Ipa, bytes: usize) -> Result<Range<usize>, OutsideRam> {
        let offset = start.get().checked_sub(RAM).ok_or(OutsideRam(start))?;
        let end = offset.checked_add(bytes as u64).ok_or(OutsideRam(start))?;
        if end > BYTES { Err(OutsideRam(start)) } else { Ok(offset as usize..end as usize) }
    }

    fn with<R>(&self, work: impl FnOnce(&mut Contents) -> R) -> R {
        let mut contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contents.bytes.resize(BYTES as usize, 0);
        work(&mut contents)
    }

    /// The next read of the hypervisor is followed by this write of the guest.
    pub(super) fn ambush(&self, offset: u8, value: u8) {
        self.with(|contents| contents.hostile.push_back((offset, value)));
    }
}

impl GuestRam for Ram {
    fn contains(&self, start: Ipa, bytes: u64) -> bool {
        usize::try_from(bytes).is_ok_and(|bytes| Self::range(start, bytes).is_ok())
    }

    fn read(&self, start: Ipa, to: &mut [u8]) -> Result<(), OutsideRam> {
        let range = Self::range(start, to.len())?;
        self.with(|Contents { bytes, hostile }| {
            let read = &mut bytes[range];
            to.copy_from_slice(read);
            if let Some((offset, value)) = hostile.pop_front()
                && let Some(byte) = read.get_mut(usize::from(offset) % to.len().max(1))
            {
                *byte = value;
            }
        });
        Ok(())
    }

    fn write(&self, start: Ipa, from: &[u8]) -> Result<(), OutsideRam> {
        let range = Self::range(start, from.len())?;
        self.with(|contents| contents.bytes[range].copy_from_slice(from));
        Ok(())
    }
    // Its tables are somebody else's test.
    fn give_up(&self, start: Ipa, _bytes: u64) -> Result<(), Kept> {
        Err(OutsideRam(start).into())
    }
}

/// All that a failed call must leave as it was.
pub(super) type Everything = (ServiceFootprint, Footprint, fake::Snapshot);

/// Device 8 (stream 0x10) and 16 (stream 0x20) are the VM's, stream 0x30 is another VM's.
pub(super) struct House {
    pub(super) iommus: Arc<Iommus>,
    pub(super) driver: Arc<FakeDriver>,
    pub(super) ram: Arc<Ram>,
    pub(super) service: Service,
    owner: Owner,
}

impl House {
    /// A house whose devices may do what `policy` says.
    pub(super) fn new(policy: StreamPolicy) -> Result<Self, palisade_iommu::Error> {
        Self::build(policy, false).map(|(house, _)| house)
    }

    /// The same, with an SMMU of the VM's own before its devices.
    pub(super) fn with_smmu(
        policy: StreamPolicy,
    ) -> Result<(Self, Arc<SmmuDevice>), palisade_iommu::Error> {
        Self::build(policy, true)
    }

    fn build(
        policy: StreamPolicy,
        with_smmu: bool,
    ) -> Result<(Self, Arc<SmmuDevice>), palisade_iommu::Error> {
        let iommus = Arc::new(Iommus::new(2, 16));
        let driver = FakeDriver::new();
        for (stream, _) in STREAMS {
            iommus.add_device(DeviceInfo {
                id: DeviceId::new(stream),
                name: "device".into(),
                iommu: Some(1),
                streams: vec![StreamId::new(stream)],
                isolation: None,
            })?;
        }
        iommus.register(fake::registration(1, driver.clone())).map_err(|refused| refused.error)?;
        let owner = iommus.owners().open(0)?;
        let other = iommus.owners().open(1)?;
        let domain = iommus.paging_domain(owner, PhysAddr::new(OURS), 0)?;
        let theirs = iommus.paging_domain(other, PhysAddr::new(THEIRS), 0)?;
        let ram = Arc::new(Ram::default());
        let view = Arc::new(PhysicalView);
        let vgic = Vgic::new(Version::V3, 1);
        let line = |nth: u32| vgic.line(64 + nth);
        let smmu = SmmuDevice::new(SmmuConfig {
            identity: IDENTITY,
            phandle: 1,
            iommus: iommus.clone(),
            owner,
            ram: ram.clone(),
            lines: Lines { event: line(0), sync: line(1), error: line(2) },
        });
        let mut service = Service::new(iommus.clone(), owner, ram.clone(), view, 39, 16);
        if with_smmu {
            service = service.with_smmus(vec![smmu.clone()]);
        }
        for (stream, number) in STREAMS {
            let group = iommus.group_of(DeviceId::new(stream))?;
            let domain = if number.is_some() { &domain } else { &theirs };
            iommus.assign(&group, domain, policy)?;
            if let Some(number) = number {
                let streams = vec![StreamId::new(stream)];
                service.add_device(ServiceDevice { number, group, streams, policy });
            }
        }
        Ok((Self { iommus, driver, ram, service, owner }, smmu))
    }

    /// What there is now.
    pub(super) fn everything(&self) -> Everything {
        (self.service.footprint(), self.iommus.footprint(), self.driver.snapshot())
    }

    /// Nobody reaches what is not his, by whatever transaction.
    pub(super) fn judge(&self, substream: u32) {
        for (stream, number) in STREAMS {
            for substream in [None, Some(SubstreamId::new(substream))] {
                match self.driver.transaction(StreamId::new(stream), substream) {
                    Reach::Physical => panic!("stream {stream:#x} goes untranslated"),
                    Reach::Through(cached) => {
                        let mine = number.is_some();
                        assert_eq!(cached.vmid == 1, mine, "{cached:x?}");
                        let stage1 = mine && (RAM..RAM + BYTES).contains(&cached.root);
                        let stage2 = cached.root == if mine { OURS } else { THEIRS };
                        assert!(stage1 || stage2, "{cached:x?}");
                    }
                    Reach::Aborted | Reach::Quiet | Reach::BadContext => {
                        assert!(number.is_some(), "the other VM's device has stopped");
                    }
                }
            }
        }
        let faults = self.driver.core_faults();
        assert!(faults.is_empty(), "{faults:?}");
    }

    /// The VM goes; everything comes back.
    pub(super) fn finish(self) -> Result<(), palisade_iommu::Error> {
        for (stream, number) in STREAMS {
            if number.is_some() {
                let group = self.iommus.group_of(DeviceId::new(stream))?;
                self.iommus.detach(&group)?;
                self.service.remove_group(&group, true);
            }
        }
        assert_eq!(self.service.footprint(), ServiceFootprint::default());
        assert_eq!(self.driver.context_tables(), 0);
        assert!(self.iommus.owners().close(self.owner).is_ok());
        Ok(())
    }
}
