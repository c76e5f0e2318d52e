//! Taking devices from a VM.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::{Deadline, Env};
use palisade_iommu::{Condition, DeviceId, Group, Idle, Iommus};
use palisade_pci::regs::header;
use palisade_pci::{Address, Error, IdleProof, set_ats};

use super::claims::{Found, Passthrough, Row, group};
use super::refusal::Refusal;

/// What became of a device.
#[derive(Clone, Copy, Debug)]
pub struct Returned {
    /// The device.
    pub address: Address,
    /// Free, quarantined or dead.
    pub condition: Condition,
    /// Why it is not free, where the device itself is at fault.
    pub error: Option<Error>,
    /// It may still write to the memory of the VM: no IOMMU was seen to end that, and its reset did
    /// not prove it idle.
    pub reaches: bool,
}

impl Passthrough {
    /// Takes everything from VM `vm`: its vCPUs have stopped and its
    /// [`PciHost`](crate::pci::PciHost) is cleared. When this returns no device of it can reach
    /// memory any more; the answer says what each can still be used for.
    pub fn take_back(&self, vm: u16, iommus: &Iommus, env: &impl Env) -> Vec<Returned> {
        let _operation = self.operation.lock();
        self.retrieve(&|row| row.owner == Some(vm), iommus, env)
    }

    /// Takes one device, with everything in its group, from VM `vm` while it runs. It is out of
    /// the VM's [`PciHost`](crate::pci::PciHost) before. The answer is empty if the VM does not
    /// own it.
    pub fn take_back_device(
        &self,
        vm: u16,
        address: Address,
        iommus: &Iommus,
        env: &impl Env,
    ) -> Vec<Returned> {
        let _operation = self.operation.lock();
        let group = group(iommus, address).ok().flatten();
        let along = group.map(|group| group.devices()).unwrap_or_default();
        let wanted = |row: &Row| {
            row.owner == Some(vm)
                && (row.address == address
                    || along.iter().any(|device| device.get() == row.address.number()))
        };
        // Nobody takes a group by a device of it that somebody else owns.
        if !self.rows.lock().iter().any(|row| row.address == address && wanted(row)) {
            return Vec::new();
        }
        self.retrieve(&wanted, iommus, env)
    }

    /// Resets the devices of a VM that starts anew and keeps them. Its
    /// [`PciHost`](crate::pci::PciHost) is reset before.
    ///
    /// # Errors
    /// The first device that is not what it was, or whose IOMMU does not follow; the VM should be
    /// taken down.
    pub fn reset(&self, vm: u16, iommus: &Iommus, env: &impl Env) -> Result<(), Refusal> {
        let _operation = self.operation.lock();
        let rows: Vec<Row> =
            self.rows.lock().iter().filter(|row| row.owner == Some(vm)).copied().collect();
        let follow = |row: &Row, on| {
            let told = iommus.set_device_tlb(DeviceId::new(row.address.number()), on);
            told.map_err(|error| Refusal::Iommu { device: row.address, error })
        };
        // Of all before the first is reset: one reset may reach them all, and takes ATS and what
        // they have translated (10.5.1.3). From here on their streams take none of that.
        for row in rows.iter().filter(|row| row.ats) {
            follow(row, false)?;
            set_ats(self.find(row.address)?.config(), false);
        }
        for row in &rows {
            let found = self.find(row.address)?;
            let topology = &found.bus.topology;
            let proof = match row.method {
                Some(method) => topology.reset(found.index, method, env),
                None => topology.silence(found.index, env),
            };
            let _proof = proof.map_err(Refusal::Device)?;
        }
        for row in rows.iter().filter(|row| row.ats) {
            // Its stream first (IHI 0070 3.9.2).
            set_ats(self.find(row.address)?.config(), follow(row, true)?);
        }
        Ok(())
    }

    /// Takes back what `wanted` says; whole groups only.
    pub(super) fn retrieve(
        &self,
        wanted: &dyn Fn(&Row) -> bool,
        iommus: &Iommus,
        env: &impl Env,
    ) -> Vec<Returned> {
        let rows: Vec<Row> = self.rows.lock().iter().filter(|row| wanted(row)).copied().collect();
        // First every stream, so that none of the VM's devices works on while others are reset.
        let mut groups: Vec<(Arc<Group>, bool)> = Vec::new();
        for row in &rows {
            let Ok(Some(group)) = group(iommus, row.address) else { continue };
            if groups.iter().any(|(known, _)| Arc::ptr_eq(known, &group)) {
                continue;
            }
            let detached = iommus.detach(&group);
            if let Err(error) = &detached {
                log::error!("device {}: {error}", row.address);
            }
            let clean = detached.is_ok();
            groups.push((group, clean));
        }
        for row in &rows {
            // Not before: what it holds was invalidated just now, and one that does not translate
            // does not respond to that (10.5.1.3). Its stream aborts, so that it got nothing new.
            if let Ok(found) = self.find(row.address) {
                set_ats(found.config(), false);
            }
        }
        let mut returned = Vec::new();
        for row in rows {
            let group = group(iommus, row.address).ok().flatten();
            let mut clean = false;
            for (known, state) in &groups {
                clean |= *state && group.as_ref().is_some_and(|group| Arc::ptr_eq(known, group));
            }
            let aborting = group.is_some();
            let answer = match self.find(row.address) {
                // Where the abort was not confirmed, nothing is let go.
                Ok(found) => quiesce(found, &row, aborting && clean, env),
                Err(_) => Err(Error::Absent(row.address)),
            };
            let reset = row.method.is_some();
            let idle = answer.as_ref().is_ok_and(|proof| reset && proof.pending_known());
            let reaches = !(idle || aborting && clean);
            let condition = match &answer {
                Ok(_) if aborting && !clean => Condition::Dead,
                // Where nothing aborts, what was in flight could not drain: only the device's
                // own word counts.
                Ok(proof) if !aborting && !proof.pending_known() => Condition::Quarantined,
                Ok(_) => Condition::Free,
                Err(_) => Condition::Dead,
            };
            if let Err(error) = &answer {
                log::error!("{error}: dead");
            }
            self.note(Row {
                owner: None,
                condition,
                wire: None,
                messages: None,
                ats: false,
                ..row
            });
            if let Some(wire) = row.wire {
                self.lines().return_wire(wire);
            }
            let error = answer.err();
            returned.push(Returned { address: row.address, condition, error, reaches });
        }
        for (group, clean) in groups {
            self.release(&group, clean, iommus);
        }
        returned
    }

    /// Ends a group's quarantine if all its devices were proven idle, else buries it.
    fn release(&self, group: &Arc<Group>, clean: bool, iommus: &Iommus) {
        let ids = group.devices();
        let rows = self.rows.lock();
        let row = |id: &palisade_iommu::DeviceId| {
            rows.iter().find(|row| row.address.number() == id.get()).copied()
        };
        let free = ids.iter().all(|id| row(id).is_some_and(|r| r.condition == Condition::Free));
        let reset = ids.iter().all(|id| row(id).is_some_and(|row| row.method.is_some()));
        drop(rows);
        let idle = if reset { Idle::Reset } else { Idle::Waived };
        if !clean || !free || iommus.release(group, idle).is_err() {
            iommus.bury(group);
            for row in self.rows.lock().iter_mut() {
                if ids.iter().any(|id| id.get() == row.address.number()) {
                    row.condition = Condition::Dead;
                }
            }
        }
    }
}

/// Drains a device into its aborting stream, resets it and sees it idle.
///
/// # Errors
/// What keeps it from being proven idle.
pub(super) fn quiesce(
    found: Found<'_>,
    row: &Row,
    aborting: bool,
    env: &impl Env,
) -> Result<IdleProof, Error> {
    let topology = &found.bus.topology;
    let config = topology.ecam().config(row.address);
    if aborting && row.settle_ms > 0 {
        // On, also where the old owner switched it off: a transfer that waits for bus mastering
        // must go off now, and not in the hands of the next owner.
        config.write16(header::COMMAND, header::COMMAND_MASTER | header::COMMAND_INTX_OFF);
    } else {
        config.write16(header::COMMAND, header::COMMAND_INTX_OFF);
    }
    let settled = Deadline::after(env, u64::from(row.settle_ms).saturating_mul(1000));
    settled.wait(env, || false);
    match row.method {
        Some(method) => topology.reset(found.index, method, env),
        None => topology.silence(found.index, env),
    }
}
