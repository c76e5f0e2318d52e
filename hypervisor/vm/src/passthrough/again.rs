//! Resetting a device that nobody owns.

use palisade_hal::Env;
use palisade_iommu::{Condition, Iommus};
use palisade_pci::Address;

use super::claims::{Passthrough, Row, group};
use super::refusal::Refusal;
use super::take_back::quiesce;

impl Passthrough {
    /// Drains, resets and proves idle a device that no VM owns; it is contained no longer. Answers whether it is free now:
    /// one that nothing confines may stay quarantined, for want of its own word.
    ///
    /// # Errors
    /// It is not there, a VM's, dead, cannot be reset, or is not what it was afterwards: then it
    /// is dead.
    pub fn reset_unowned(
        &self,
        address: Address,
        iommus: &Iommus,
        env: &impl Env,
    ) -> Result<bool, Refusal> {
        let _operation = self.operation.lock();
        let found = self.find(address)?;
        let known = self.rows.lock().iter().find(|row| row.address == address).copied();
        if let Some(vm) = known.and_then(|row| row.owner) {
            return Err(Refusal::Claimed { device: address, vm });
        }
        let group =
            group(iommus, address).map_err(|error| Refusal::Iommu { device: address, error })?;
        let dead = group.as_ref().is_some_and(|group| group.condition() == Condition::Dead);
        if dead || known.is_some_and(|row| row.condition == Condition::Dead) {
            return Err(Refusal::Dead(address));
        }
        let topology = &found.bus.topology;
        // Whoever was reset along with it before may have an owner by now.
        let unowned = |index: usize| {
            let other = topology.function(index).map(|other| other.address);
            let rows = self.rows.lock();
            !rows.iter().any(|row| Some(row.address) == other && row.owner.is_some())
        };
        let method = match topology.reset_method(found.index, &unowned) {
            Ok(method) => Some(method),
            Err(error) => return Err(Refusal::NoReset(error)),
        };
        let aborting = group.is_some();
        let settle_ms = known.map_or(0, |row| row.settle_ms);
        let row = Row {
            address,
            owner: None,
            guest: 0,
            condition: Condition::Free,
            isolated: known.is_some_and(|row| row.isolated),
            wire: None,
            messages: None,
            ats: false,
            method,
            settle_ms,
        };
        match quiesce(found, &row, aborting, env) {
            Ok(proof) => {
                let free = aborting || proof.pending_known();
                let condition = if free { Condition::Free } else { Condition::Quarantined };
                self.note(Row { condition, ..row });
                if let Some(group) = &group {
                    iommus
                        .end_containment(group)
                        .map_err(|error| Refusal::Iommu { device: address, error })?;
                }
                Ok(free)
            }
            Err(error) => {
                self.note(Row { condition: Condition::Dead, ..row });
                if let Some(group) = group {
                    iommus.bury(&group);
                }
                Err(Refusal::Device(error))
            }
        }
    }
}
