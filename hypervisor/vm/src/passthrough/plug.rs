//! Plugging devices into a VM, and out of it: one order of steps for each way, whoever asks.
//!
//! In: proven idle and moved into the VM's domain ([`Passthrough::assign`]); then the guest
//! interface, messages, the wire, and last the guest's bus, so that a guest that finds the device
//! finds all of it. Out, from the other end: off the guest's bus, wire off, messages gone; then
//! the stream aborts, the device is drained, reset and proven idle
//! ([`Passthrough::take_back`]), and the guest interface drops its group. Wire and messages go
//! before the device is free, since its next owner may wait for it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::Env;
use palisade_iommu::{Domain, Group, Iommus};
use palisade_pci::Address;

use super::assign::{Assigned, Request};
use super::claims::{Passthrough, Row, group};
use super::refusal::Refusal;
use super::take_back::Returned;
use crate::pci::PciError;
use crate::wire::WireError;

/// Why a VM does not get its devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlugError {
    /// A device is refused.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It does not fit the guest's bus.
    #[error("{0}")]
    Bus(#[from] PciError),
    /// The IOMMU core does not know it.
    #[error("{0}")]
    Iommu(#[from] palisade_iommu::Error),
}

/// What devices are plugged into besides the VM's memory. Each pair undoes one another, and an
/// undo of what was never done does nothing.
pub trait Fittings {
    /// Adds a device to the VM's guest interface, if it has one.
    ///
    /// # Errors
    /// The IOMMU core does not know it.
    fn share(&self, device: &Assigned) -> Result<(), PlugError>;
    /// Removes a group from it. `clean`: nothing of the VM is cached for it.
    fn unshare(&self, group: &Arc<Group>, clean: bool);
    /// Lets a device send messages, if it can.
    ///
    /// # Errors
    /// They cannot be had.
    fn open_messages(&self, device: &Assigned) -> Result<(), PlugError>;
    /// Takes the messages of the device at this place of the guest's bus away.
    fn close_messages(&self, guest: u16);
    /// Switches a device's wire on.
    ///
    /// # Errors
    /// It cannot be had.
    fn connect(&self, device: &Assigned) -> Result<(), PlugError>;
    /// Takes the wire with this physical INTID away, neither active nor pending.
    ///
    /// # Errors
    /// It must not be given to another owner.
    fn disconnect(&self, intid: u32) -> Result<(), WireError>;
    /// Shows a device on the guest's bus.
    ///
    /// # Errors
    /// It does not fit.
    fn show(&self, device: &Assigned) -> Result<(), PlugError>;
    /// Takes what is at this place off the guest's bus.
    fn hide(&self, guest: u16);
    /// Has the VM's vCPUs look at what changed.
    fn kick(&self);
    /// Notes that a device which was taken may still write to the VM's memory.
    fn expose(&self);
}

/// The result of an unplug.
#[derive(Debug, Default)]
pub struct Unplugged {
    /// What each device can still be used for; none if the VM owns none of them.
    pub devices: Vec<Returned>,
    /// Why a wire stays the VM's, if one does.
    pub held: Option<WireError>,
}

/// Which of a VM's devices.
#[derive(Clone, Copy, Debug)]
pub enum Which<'w> {
    /// All of them.
    All,
    /// These, with everything in their groups.
    These(&'w [Address]),
}

impl Passthrough {
    /// Gives a VM its devices and fits them: all of them or none.
    ///
    /// # Errors
    /// The first [`PlugError`]; none of them is the VM's then, as after [`unplug`](Self::unplug).
    pub fn plug(
        &self,
        fittings: &impl Fittings,
        request: &Request<'_>,
        domain: &Arc<Domain>,
        iommus: &Iommus,
        env: &impl Env,
    ) -> Result<Vec<Assigned>, PlugError> {
        let assigned = self.assign(request, domain, iommus, env)?;
        let fit = |one: &Assigned| {
            fittings.share(one)?;
            fittings.open_messages(one)?;
            fittings.connect(one)?;
            fittings.show(one)
        };
        if let Err(error) = assigned.iter().try_for_each(fit) {
            let these: Vec<Address> = assigned.iter().map(|one| one.address).collect();
            let _ = self.unplug(fittings, request.vm, Which::These(&these), iommus, env);
            return Err(error);
        }
        Ok(assigned)
    }

    /// Takes devices from a VM. When this returns none of them can reach memory any more; the
    /// result says what each can still be used for.
    pub fn unplug(
        &self,
        fittings: &impl Fittings,
        vm: u16,
        which: Which<'_>,
        iommus: &Iommus,
        env: &impl Env,
    ) -> Unplugged {
        let rows: Vec<Row> =
            self.rows().into_iter().filter(|row| self.is_of(row, vm, which, iommus)).collect();
        rows.iter().for_each(|row| fittings.hide(row.guest));
        let mut held = None;
        for row in &rows {
            if let Some(wire) = row.wire
                && let Err(error) = fittings.disconnect(wire)
            {
                // A vCPU may still end its interrupt: it stays the VM's.
                log::error!("device {}: {error}", row.address);
                self.keep_wire(row.address);
                held = Some(error);
            }
        }
        rows.iter().for_each(|row| fittings.close_messages(row.guest));
        fittings.kick();
        let devices = match which {
            Which::All => self.take_back(vm, iommus, env),
            Which::These(these) => {
                let one = |&address: &Address| self.take_back_device(vm, address, iommus, env);
                these.iter().flat_map(one).collect()
            }
        };
        if devices.iter().any(|device| device.reaches) {
            fittings.expose();
        }
        let mut groups: Vec<Arc<Group>> = Vec::new();
        for row in rows {
            let Ok(Some(group)) = group(iommus, row.address) else { continue };
            if !groups.iter().any(|known| Arc::ptr_eq(known, &group)) {
                let dead = group.condition() == palisade_iommu::Condition::Dead;
                fittings.unshare(&group, !dead);
                groups.push(group);
            }
        }
        Unplugged { devices, held }
    }

    /// Whether VM `vm` owns a device, and `which` means it.
    fn is_of(&self, row: &Row, vm: u16, which: Which<'_>, iommus: &Iommus) -> bool {
        let Which::These(these) = which else { return row.owner == Some(vm) };
        let along = group(iommus, row.address).ok().flatten().map(|group| group.devices());
        let meant = |address: &Address| {
            *address == row.address
                || along.iter().flatten().any(|member| member.get() == address.number())
        };
        row.owner == Some(vm) && these.iter().any(meant)
    }
}
