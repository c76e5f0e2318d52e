//! Devices change hands, and domains end.

use palisade_iommu::{Condition, DeviceId, Idle, StreamPolicy};

use crate::tables;
use crate::world::{DEVICES, Space, TRUSTED, Trouble, World};

impl World {
    pub(crate) fn streams_of(device: u32) -> &'static [u32] {
        DEVICES.iter().find(|(id, _)| *id == device).map_or(&[], |(_, streams)| streams)
    }

    fn begin_streams(&self, device: u32, domain: Option<u32>) {
        self.machine.with_ledger(|ledger| {
            for stream in Self::streams_of(device) {
                ledger.begin_stream(*stream, domain);
            }
        });
    }

    fn end_streams(&self, device: u32, domain: Option<u32>) {
        self.machine.with_ledger(|ledger| {
            for stream in Self::streams_of(device) {
                ledger.end_stream(*stream, domain);
            }
        });
    }

    pub(crate) fn assign(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("assign");
        if self.spaces.is_empty() {
            return Ok(());
        }
        let (device, _) = DEVICES[self.rng.index(DEVICES.len())];
        let space = &self.spaces[self.rng.index(self.spaces.len())];
        let group = self.iommus.group_of(DeviceId::new(device))?;
        if group.condition() != Condition::Free {
            return Ok(());
        }
        self.begin_streams(device, Some(space.number));
        let policy = StreamPolicy { ats: device == TRUSTED, ..StreamPolicy::default() };
        self.iommus.assign(&group, &space.domain, policy)?;
        self.end_streams(device, Some(space.number));
        self.behind.insert(device, space.number);
        Ok(())
    }

    pub(crate) fn take_back(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("detach");
        let (device, _) = DEVICES[self.rng.index(DEVICES.len())];
        self.detach(device)
    }

    fn detach(&mut self, device: u32) -> Result<(), Trouble> {
        let group = self.iommus.group_of(DeviceId::new(device))?;
        if group.condition() != Condition::Assigned {
            return Ok(());
        }
        self.begin_streams(device, None);
        self.iommus.detach(&group)?;
        self.end_streams(device, None);
        self.behind.remove(&device);
        self.iommus.release(&group, Idle::Reset)?;
        Ok(())
    }

    pub(crate) fn replace(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("replace");
        let (device, _) = DEVICES[self.rng.index(DEVICES.len())];
        let Some(number) = self.behind.get(&device).copied() else { return Ok(()) };
        let sibling = number ^ 1;
        let Some(space) = self.spaces.iter().find(|space| space.number == sibling) else {
            return Ok(());
        };
        let group = self.iommus.group_of(DeviceId::new(device))?;
        self.begin_streams(device, Some(sibling));
        // Another VMID and another table in one live entry: a break is allowed.
        self.begin_streams(device, None);
        self.iommus.replace(&group, &space.domain)?;
        self.end_streams(device, Some(sibling));
        self.behind.insert(device, sibling);
        Ok(())
    }

    /// Ends a domain: devices back, pages out, tables down, VMID free.
    pub(crate) fn retire(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("retire");
        if self.spaces.is_empty() {
            return Ok(());
        }
        let index = self.rng.index(self.spaces.len());
        let number = self.spaces[index].number;
        let devices: Vec<u32> = self
            .behind
            .iter()
            .filter(|(_, domain)| **domain == number)
            .map(|(device, _)| *device)
            .collect();
        for device in devices {
            self.detach(device)?;
        }
        let space = self.spaces.swap_remove(index);
        let Space { domain, table, users, owner, pages, extents, .. } = space;
        if let Err(refusal) = tables::destroy(table, &self.frames, &users) {
            return Self::refused(refusal);
        }
        self.iommus.retire(&domain, |_| true)?;
        self.machine.with_ledger(|ledger| ledger.domains.remove(&number));
        self.free.extend(pages.into_values().map(|page| page.pa));
        self.extent_ram.extend(extents.into_values().map(|page| page.pa));
        if !self.spaces.iter().any(|space| space.owner == owner) {
            let _ = self.iommus.owners().close(owner);
        }
        Ok(())
    }
}
