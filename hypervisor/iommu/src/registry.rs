//! The registry: known devices, registered instances, and the groups between them.

use crate::error::Resource;
use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::PhysAddr;
use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{StreamId, Vmid};
use palisade_mem::Space;

use crate::device::{DeviceId, DeviceInfo};
use crate::domain::{Domain, DomainKind};
use crate::driver::StageTwo;
use crate::error::Error;
use crate::fault::{FaultLog, Owner, Owners};
use crate::group::{Condition, Group};
use crate::ids::IdPool;
use crate::instance::{Instance, Registration};
use crate::probe;

/// Faults that wait for the operator at most; further ones are counted.
pub(crate) const OPERATOR_LOG: usize = 256;

pub(crate) struct Known {
    pub(crate) info: DeviceInfo,
    pub(crate) group: Option<Arc<Group>>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) devices: Vec<Known>,
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) groups: Vec<Arc<Group>>,
}

/// A registration that failed, with everything that was given to it.
pub struct Rejected {
    /// Why.
    pub error: Error,
    /// What was given, to be tried again or dropped.
    pub registration: Registration,
}

/// What the core holds; equal before and after anything that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Registered instances.
    pub instances: usize,
    /// Groups.
    pub groups: usize,
    /// Devices that belong to a group.
    pub claimed: usize,
    /// Streams with a fault route.
    pub routes: usize,
    /// VMIDs in use.
    pub vmids: u32,
    /// VMIDs that may still tag something, lost for good.
    pub vmids_lost: u32,
}

/// All IOMMUs of a machine; works with none.
///
/// Lock order: registry → group → domain → driver. Taking fault records takes none of them;
/// containing who storms takes the group's, after the records were taken.
pub struct Iommus {
    pub(crate) inner: Mutex<Inner>,
    pub(crate) owners: Owners,
    pub(crate) operator: Mutex<FaultLog>,
    vmids: Mutex<IdPool>,
}

impl Iommus {
    /// A registry for VMs `0..owners` on CPUs whose VMIDs have `vmid_bits` (8 or 16).
    pub fn new(owners: u16, vmid_bits: u8) -> Self {
        let max = if vmid_bits >= 16 { u16::MAX } else { u16::from(u8::MAX) };
        Self {
            inner: Mutex::new(Rank::Registry, Inner::default()),
            owners: Owners::new(owners),
            operator: Mutex::new(Rank::FaultLog, FaultLog::new(OPERATOR_LOG)),
            vmids: Mutex::new(Rank::Ids, IdPool::new(max)),
        }
    }

    /// The VMs that own devices, and their fault logs.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Announces a device. If its IOMMU is registered it is claimed now, else when that comes.
    ///
    /// # Errors
    /// [`Error::DuplicateDevice`], [`Error::Tangled`], or the driver's error: the device is
    /// then as unknown as before.
    pub fn add_device(&self, info: DeviceInfo) -> Result<(), Error> {
        let mut inner = self.inner.lock();
        if inner.devices.iter().any(|known| known.info.id == info.id) {
            return Err(Error::DuplicateDevice(info.id));
        }
        inner.devices.try_reserve(1).map_err(|_| Error::NoMemory)?;
        let instance =
            inner.instances.iter().find(|instance| Some(instance.phandle()) == info.iommu).cloned();
        inner.devices.push(Known { info, group: None });
        let Some(instance) = instance else { return Ok(()) };
        let answer = probe::probe(&mut inner, &instance);
        if answer.is_err() {
            inner.devices.pop();
        }
        answer
    }

    /// Registers an instance and claims every known device behind it; ready last.
    ///
    /// # Errors
    /// [`Error::Conflict`] before anything is touched; any failure on the way undoes exactly
    /// what this instance brought, in reverse, and hands the registration back.
    pub fn register(&self, registration: Registration) -> Result<Arc<Instance>, Rejected> {
        let mut inner = self.inner.lock();
        let phandle = registration.phandle;
        if inner.instances.iter().any(|instance| instance.phandle() == phandle) {
            return Err(Rejected { error: Error::Conflict(phandle), registration });
        }
        if inner.instances.try_reserve(1).is_err() {
            return Err(Rejected { error: Error::NoMemory, registration });
        }
        let mut instance = Arc::new(Instance::new(registration));
        if let Err(error) = probe::probe(&mut inner, &instance) {
            // Nobody else has seen the instance: its groups are gone again and it was never
            // listed. Should that ever change, the loop ends when the last one lets go.
            let instance = loop {
                match Arc::try_unwrap(instance) {
                    Ok(instance) => break instance,
                    Err(shared) => instance = shared,
                }
            };
            return Err(Rejected { error, registration: instance.into_registration() });
        }
        inner.instances.push(instance.clone());
        instance.publish(true);
        Ok(instance)
    }

    /// Takes an instance out and releases exactly the devices behind it; answers how many.
    ///
    /// # Errors
    /// [`Error::UnknownInstance`]; [`Error::InUse`] unless every group behind it is free.
    pub fn unregister(&self, phandle: u32) -> Result<usize, Error> {
        let mut inner = self.inner.lock();
        let instance = inner
            .instances
            .iter()
            .find(|instance| instance.phandle() == phandle)
            .cloned()
            .ok_or(Error::UnknownInstance(phandle))?;
        for group in inner.groups.iter().filter(|group| Arc::ptr_eq(group.instance(), &instance)) {
            let state = group.lock();
            if state.condition() != Condition::Free {
                return Err(Error::InUse { phandle, device: state.first_device() });
            }
        }
        instance.publish(false);
        let released = probe::release(&mut inner, &instance, 0);
        inner.instances.retain(|other| !Arc::ptr_eq(other, &instance));
        Ok(released)
    }

    /// The instance with this phandle.
    pub fn instance(&self, phandle: u32) -> Option<Arc<Instance>> {
        let inner = self.inner.lock();
        inner.instances.iter().find(|instance| instance.phandle() == phandle).cloned()
    }

    /// Every instance.
    pub fn instances(&self) -> Vec<Arc<Instance>> {
        self.inner.lock().instances.clone()
    }

    /// The group of a device.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`], [`Error::NoIommu`], [`Error::NotReady`].
    pub fn group_of(&self, device: DeviceId) -> Result<Arc<Group>, Error> {
        let inner = self.inner.lock();
        let known = inner
            .devices
            .iter()
            .find(|known| known.info.id == device)
            .ok_or(Error::UnknownDevice(device))?;
        let phandle = known.info.iommu.ok_or(Error::NoIommu(device))?;
        match &known.group {
            Some(group) if group.instance().is_ready() => Ok(group.clone()),
            _ => Err(Error::NotReady { device, phandle }),
        }
    }

    /// Every StreamID of a device.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`].
    pub fn streams_of(&self, device: DeviceId) -> Result<Vec<StreamId>, Error> {
        let inner = self.inner.lock();
        let known = inner.devices.iter().find(|known| known.info.id == device);
        known.map(|known| known.info.streams.clone()).ok_or(Error::UnknownDevice(device))
    }

    /// A domain for the VM `owner`, whose stage 2 has its root at `table` and the VTCR_EL2
    /// fields `control`; it comes with a VMID of its own that every IOMMU and the CPUs can use.
    ///
    /// # Errors
    /// [`Error::StaleOwner`]; [`Error::Exhausted`] without a VMID.
    pub fn paging_domain(
        &self,
        owner: Owner,
        table: PhysAddr,
        control: u32,
    ) -> Result<Arc<Domain>, Error> {
        self.paging_domain_in(owner, Space::open(), table, control).map_err(|(error, _)| error)
    }

    /// [`Self::paging_domain`] in a space that was opened before: the VM's memory map needs its
    /// scope for the tables before there is a root to name.
    ///
    /// # Errors
    /// As [`Self::paging_domain`], with the space, which nothing points at.
    pub fn paging_domain_in(
        &self,
        owner: Owner,
        space: Space,
        table: PhysAddr,
        control: u32,
    ) -> Result<Arc<Domain>, (Error, Space)> {
        match self.fresh_vmid(owner) {
            Ok(vmid) => {
                let stage_two = StageTwo { vmid, table, control };
                Ok(Arc::new(Domain::new(space, DomainKind::Paging { owner, stage_two })))
            }
            Err(error) => Err((error, space)),
        }
    }

    /// A VMID that every IOMMU and the CPUs can use.
    fn fresh_vmid(&self, owner: Owner) -> Result<Vmid, Error> {
        if !self.owners.is_open(owner) {
            return Err(Error::StaleOwner);
        }
        let limit = {
            let inner = self.inner.lock();
            let widths = inner.instances.iter().map(|instance| instance.capabilities().vmid_max());
            widths.min().unwrap_or(u16::MAX)
        };
        let vmid = self.vmids.lock().alloc(limit).ok_or(Error::Exhausted(Resource::Vmid))?;
        Ok(Vmid::new(vmid))
    }

    /// A domain in which nothing is translated. It belongs to no VM and no VM can reach it:
    /// it is for devices that the hypervisor itself drives.
    pub fn identity_domain(&self) -> Arc<Domain> {
        Arc::new(Domain::new(Space::open(), DomainKind::Identity))
    }

    /// Ends a domain that nothing is attached to. `cpus_forgot` makes the CPUs forget the VMID
    /// and answers whether that is known to be done. The VMID is free again only if every
    /// IOMMU that ever held it and the CPUs are clean; else it is lost for good.
    ///
    /// # Errors
    /// [`Error::Domain`] while groups are attached, or when it has been retired.
    pub fn retire(
        &self,
        domain: &Domain,
        cpus_forgot: impl FnOnce(Vmid) -> bool,
    ) -> Result<(), Error> {
        let clean = domain.retire()?;
        if let Some(vmid) = domain.vmid() {
            let clean = cpus_forgot(vmid) && clean;
            let mut vmids = self.vmids.lock();
            if clean {
                vmids.free(vmid.get());
            } else {
                vmids.lose(vmid.get());
            }
        }
        Ok(())
    }

    /// What the core holds now.
    pub fn footprint(&self) -> Footprint {
        let inner = self.inner.lock();
        let vmids = self.vmids.lock();
        Footprint {
            instances: inner.instances.len(),
            groups: inner.groups.len(),
            claimed: inner.devices.iter().filter(|known| known.group.is_some()).count(),
            routes: inner.instances.iter().map(|instance| instance.routes().len()).sum(),
            vmids: vmids.used(),
            vmids_lost: vmids.lost(),
        }
    }
}
