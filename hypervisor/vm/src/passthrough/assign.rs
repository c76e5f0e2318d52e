//! Giving devices to a VM: all of them or none.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_board::Interrupt;
use palisade_bundle::{Device, Place};
use palisade_hal::Env;
use palisade_iommu::{Condition, Domain, Group, Iommus, StreamPolicy};
use palisade_pci::{Address, ResetMethod, Topology, set_ats, translates};

use super::claims::{Found, Passthrough, Row, group};
use super::refusal::{Refusal, address};
use crate::pci::{Guest, hidden, wire_of};

/// What a VM asks for.
pub struct Request<'r> {
    /// Its index.
    pub vm: u16,
    /// Its devices, as its manifest entry lists them. Those by device tree path are not PCI's.
    pub devices: &'r [Device<'r>],
    /// Guest addresses of the devices that it has already.
    pub present: &'r [u16],
    /// The manifest says `dma_isolation = "none"`.
    pub no_isolation: bool,
}

/// A device that a VM got.
pub struct Assigned {
    /// The device.
    pub address: Address,
    /// Where it was found.
    pub topology: Arc<Topology>,
    /// What [`PciHost::add`](crate::pci::PciHost::add) takes.
    pub guest: Guest,
    /// The requester ID of its messages; `None` where they could not be told from those of
    /// another function behind the same bridge.
    pub message: Option<u16>,
    /// Its INTx wire and the guest's INTID for it.
    pub wire: Option<(Interrupt, u32)>,
    /// An SMMU keeps its DMA inside the VM.
    pub isolated: bool,
    /// What its streams may do besides.
    pub policy: StreamPolicy,
}

/// A device on its way to the VM.
struct Plan<'p> {
    found: Found<'p>,
    address: Address,
    guest: u16,
    group: Option<Arc<Group>>,
    /// The group has an IOMMU with stage 2.
    confined: bool,
    method: Option<ResetMethod>,
    settle_ms: u32,
    ats: bool,
}

impl Passthrough {
    /// Gives a VM its PCI devices. Each is reset and proven idle first, with its stream
    /// aborting, and then moves into `domain` with its whole group. If one is refused none is
    /// the VM's, and those already moved are taken back as from any owner.
    ///
    /// # Errors
    /// The first [`Refusal`]. Everything that can be known is checked before any device is
    /// touched.
    pub fn assign(
        &self,
        request: &Request<'_>,
        domain: &Arc<Domain>,
        iommus: &Iommus,
        env: &impl Env,
    ) -> Result<Vec<Assigned>, Refusal> {
        let _operation = self.operation.lock();
        let plans = self.plan(request, iommus)?;
        for plan in &plans {
            self.prepare(plan, env)?;
        }
        let answer = self.attach(request, &plans, domain, iommus);
        if let Err(refusal) = answer {
            let asked = |row: &Row| plans.iter().any(|plan| plan.address == row.address);
            let wanted = |row: &Row| row.owner == Some(request.vm) && asked(row);
            let _ = self.retrieve(&wanted, iommus, env);
            return Err(refusal);
        }
        let policies: Vec<StreamPolicy> = plans.iter().map(|plan| policy(&plans, plan)).collect();
        let pairs = plans.into_iter().zip(policies);
        Ok(pairs.map(|(plan, policy)| self.finish(request.vm, plan, policy)).collect())
    }

    /// Checks everything that can be checked without touching a device.
    fn plan<'p>(
        &'p self,
        request: &Request<'_>,
        iommus: &Iommus,
    ) -> Result<Vec<Plan<'p>>, Refusal> {
        let mut plans: Vec<Plan<'p>> = Vec::new();
        for device in request.devices {
            let Place::Pci(place) = device.place else { continue };
            let address = address(place);
            let found = self.find(address)?;
            self.unclaimed(address)?;
            if plans.iter().any(|plan| plan.address == address) {
                return Err(Refusal::Claimed { device: address, vm: request.vm });
            }
            let guest = device.guest;
            let taken = request.present.contains(&guest);
            if taken || plans.iter().any(|plan| plan.guest == guest) {
                return Err(Refusal::GuestAddress { device: address, guest });
            }
            found.function.placed().map_err(Refusal::Device)?;
            let (group, confined) = confinement(request, iommus, address)?;
            plans.push(Plan {
                found,
                address,
                guest,
                group,
                confined,
                method: None,
                settle_ms: device.settle_ms,
                ats: device.ats_trusted,
            });
        }
        for plan in &plans {
            let mut guests = plans.iter().map(|one| &one.guest).chain(request.present);
            let first = guests.any(|guest| *guest == plan.guest & !7);
            if let Some(reason) = hidden(plan.guest, first) {
                let (device, guest) = (plan.address, plan.guest);
                return Err(Refusal::Hidden { device, guest, reason });
            }
            let members = self.members(plan);
            let missing = members.iter().find(|m| !plans.iter().any(|p| p.address == **m));
            if let Some(other) = missing {
                return Err(Refusal::Split { device: plan.address, other: *other });
            }
        }
        let addresses: Vec<Address> = plans.iter().map(|plan| plan.address).collect();
        for (plan, device) in plans.iter_mut().zip(pci_devices(request)) {
            let topology = &plan.found.bus.topology;
            // What goes to the same VM may be reset together.
            let together = |index: usize| {
                topology.function(index).is_some_and(|other| addresses.contains(&other.address))
            };
            plan.method = match topology.reset_method(plan.found.index, &together) {
                Ok(method) => Some(method),
                Err(_) if device.no_reset => None,
                Err(error) => return Err(Refusal::NoReset(error)),
            };
        }
        Ok(plans)
    }

    fn unclaimed(&self, address: Address) -> Result<(), Refusal> {
        let rows = self.rows.lock();
        let Some(row) = rows.iter().find(|row| row.address == address) else { return Ok(()) };
        match row.condition {
            Condition::Free => Ok(()),
            Condition::Assigned => {
                Err(Refusal::Claimed { device: address, vm: row.owner.unwrap_or(0) })
            }
            Condition::Contained => Err(Refusal::Contained(address)),
            Condition::Quarantined => Err(Refusal::Quarantined(address)),
            Condition::Dead => Err(Refusal::Dead(address)),
        }
    }

    /// Everything that must move along with a device: its IOMMU group, and what the bus cannot
    /// tell apart where there is no IOMMU.
    fn members(&self, plan: &Plan<'_>) -> Vec<Address> {
        if let Some(group) = &plan.group {
            let number = |id: palisade_iommu::DeviceId| id.get();
            let address = |n: u32| Address::new((n >> 16) as u16, (n & 0xffff) as u16);
            return group.devices().into_iter().map(number).map(address).collect();
        }
        let topology = &plan.found.bus.topology;
        let Some(shared) = topology.isolation(plan.found.index) else {
            return Vec::new();
        };
        let functions = topology.functions().iter().enumerate();
        functions
            .filter(|(index, other)| {
                other.is_endpoint() && topology.isolation(*index) == Some(shared)
            })
            .map(|(_, other)| other.address)
            .collect()
    }

    /// Drains, resets and proves a device idle before its first or next owner.
    fn prepare(&self, plan: &Plan<'_>, env: &impl Env) -> Result<(), Refusal> {
        let row = Row {
            address: plan.address,
            owner: None,
            guest: plan.guest,
            condition: Condition::Free,
            isolated: plan.confined,
            wire: None,
            messages: None,
            ats: false,
            method: plan.method,
            settle_ms: plan.settle_ms,
        };
        if plan.method.is_none() {
            log::warn!(
                "device {}: cannot be reset; accepted, as the manifest says reset = \"none\"",
                plan.address
            );
        }
        let aborting = plan.group.is_some();
        match super::take_back::quiesce(plan.found, &row, aborting, env) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.note(Row { condition: Condition::Dead, ..row });
                Err(Refusal::Device(error))
            }
        }
    }

    /// Moves every group. What has been moved is noted as the VM's, so that it can be taken
    /// back the usual way.
    fn attach(
        &self,
        request: &Request<'_>,
        plans: &[Plan<'_>],
        domain: &Arc<Domain>,
        iommus: &Iommus,
    ) -> Result<(), Refusal> {
        let mut moved: Vec<&Arc<Group>> = Vec::new();
        for plan in plans {
            let same =
                |group: &&Arc<Group>| plan.group.as_ref().is_some_and(|g| Arc::ptr_eq(g, group));
            if let Some(group) = &plan.group
                && !moved.iter().any(same)
            {
                let target = if plan.confined { domain.clone() } else { iommus.identity_domain() };
                iommus
                    .assign(group, &target, policy(plans, plan))
                    .map_err(|error| Refusal::Iommu { device: plan.address, error })?;
                moved.push(group);
            }
            if policy(plans, plan).ats {
                // Its stream takes what the device translated from here on.
                set_ats(plan.found.bus.topology.ecam().config(plan.address), true);
            } else if plan.ats {
                log::warn!("device {}: trusted with ATS, but goes without", plan.address);
            }
            self.note(Row {
                address: plan.address,
                owner: Some(request.vm),
                guest: plan.guest,
                condition: Condition::Assigned,
                isolated: plan.confined,
                wire: None,
                messages: None,
                ats: policy(plans, plan).ats,
                method: plan.method,
                settle_ms: plan.settle_ms,
            });
        }
        Ok(())
    }

    /// Gives the device its wire, unless that has an owner: a level that two owners share cannot
    /// be told apart.
    fn finish(&self, vm: u16, plan: Plan<'_>, policy: StreamPolicy) -> Assigned {
        let Plan { found, address, guest, confined, .. } = plan;
        let topology = &found.bus.topology;
        let own = topology.interrupt(found.index, &found.bus.host);
        let message = topology.message_requester(found.index);
        let mut rows = self.rows.lock();
        let free = own.filter(|wire| self.lines().give_wire(vm, wire.intid));
        let number = message.map(|id| Address::new(address.segment(), id).number());
        let heard = number.filter(|number| !rows.iter().any(|row| row.messages == Some(*number)));
        if let Some(row) = rows.iter_mut().find(|row| row.address == address) {
            row.wire = free.map(|wire| wire.intid);
            row.messages = heard;
        }
        drop(rows);
        if heard.is_none() {
            log::warn!(
                "device {address}: another device behind its bridge interrupts by messages; it \
                 does so by its wire"
            );
        }
        if own.is_some() && free.is_none() {
            log::warn!("device {address}: its INTx wire is shared; VM {vm} does not get it");
        }
        Assigned {
            address,
            topology: found.bus.topology.clone(),
            guest: Guest {
                index: found.index,
                bdf: guest,
                wired: free.is_some(),
                messages: heard.is_some(),
                translates: policy.ats,
            },
            message: heard.and(message),
            wire: free.map(|interrupt| (interrupt, wire_of(guest, found.function.pin))),
            isolated: confined,
            policy,
        }
    }
}

/// What a plan's streams may do: ATS where the manifest trusts every device of the group, one of
/// them can, and so can the SMMU. Devices on PCI never stall.
fn policy(plans: &[Plan<'_>], plan: &Plan<'_>) -> StreamPolicy {
    let Some(group) = plan.group.as_ref().filter(|_| plan.confined) else {
        return StreamPolicy::default();
    };
    let mut members = plans
        .iter()
        .filter(|other| other.group.as_ref().is_some_and(|own| Arc::ptr_eq(own, group)));
    let able = |one: &Plan<'_>| translates(one.found.bus.topology.ecam().config(one.address));
    let able = members.clone().any(able);
    let ats = able && members.all(|member| member.ats) && group.instance().capabilities().ats;
    StreamPolicy { ats, stalls: false }
}

/// The request's devices that are on PCI.
fn pci_devices<'r>(request: &Request<'r>) -> impl Iterator<Item = &'r Device<'r>> {
    request.devices.iter().filter(|device| matches!(device.place, Place::Pci(_)))
}

/// The group of a device and whether it can be confined; refuses what cannot be, unless the
/// manifest says so.
fn confinement(
    request: &Request<'_>,
    iommus: &Iommus,
    address: Address,
) -> Result<(Option<Arc<Group>>, bool), Refusal> {
    let group = group(iommus, address);
    let group = group.map_err(|error| Refusal::Iommu { device: address, error })?;
    let Some(group) = group else {
        return if request.no_isolation {
            Ok((None, false))
        } else {
            Err(Refusal::NoSmmu(address))
        };
    };
    match group.condition() {
        Condition::Dead => return Err(Refusal::Dead(address)),
        Condition::Quarantined => return Err(Refusal::Quarantined(address)),
        Condition::Contained => return Err(Refusal::Contained(address)),
        _ => {}
    }
    let confined = group.instance().capabilities().stage2;
    if !confined && !request.no_isolation {
        let phandle = group.instance().phandle();
        return Err(Refusal::NoStageTwo { device: address, phandle });
    }
    Ok((Some(group), confined))
}
