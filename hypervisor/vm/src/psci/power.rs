//! Which vCPUs run.
use arrayvec::ArrayVec;
use palisade_hal::lock::{Mutex, Rank};

use super::call::{Answer, error};
use crate::vgic::MAX_VCPUS;

/// A vCPU's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Off.
    Off,
    /// Asked to start, and not yet running.
    Pending {
        /// Where.
        entry: u64,
        /// Its X0.
        context: u64,
    },
    /// Running.
    On,
}

/// The power of all vCPUs of a VM.
#[derive(Debug)]
pub struct PowerTable {
    vcpus: Mutex<ArrayVec<Power, MAX_VCPUS>>,
}

/// The MPIDR affinity of a vCPU: one cluster.
pub const fn affinity(vcpu: usize) -> u64 {
    vcpu as u64
}

impl PowerTable {
    /// All off.
    pub fn new(vcpus: usize) -> Self {
        Self {
            vcpus: Mutex::new(Rank::Power, (0..vcpus.min(MAX_VCPUS)).map(|_| Power::Off).collect()),
        }
    }

    /// The vCPU that the guest means by an MPIDR value: exactly its affinity, nothing else set.
    fn find(vcpus: &[Power], target: u64) -> Option<usize> {
        (0..vcpus.len()).find(|&vcpu| affinity(vcpu) == target)
    }

    /// CPU_ON (DEN 0022, 5.6). `entry` was checked. On success the vCPU to wake is answered.
    ///
    /// # Errors
    /// What the guest is told.
    pub fn start(&self, target: u64, entry: u64, context: u64) -> Result<usize, Answer> {
        let mut vcpus = self.vcpus.lock();
        let vcpu = Self::find(&vcpus, target).ok_or(error::INVALID_PARAMETERS)?;
        let slot = vcpus.get_mut(vcpu).ok_or(error::INVALID_PARAMETERS)?;
        match slot {
            Power::On => Err(error::ALREADY_ON),
            Power::Pending { .. } => Err(error::ON_PENDING),
            Power::Off => {
                *slot = Power::Pending { entry, context };
                Ok(vcpu)
            }
        }
    }

    /// AFFINITY_INFO (DEN 0022, 5.8).
    pub fn info(&self, target: u64, level: u64) -> Answer {
        let vcpus = self.vcpus.lock();
        let power = Self::find(&vcpus, target).and_then(|vcpu| vcpus.get(vcpu).copied());
        match (level, power) {
            (0, Some(Power::On)) => 0,
            (0, Some(Power::Off)) => 1,
            (0, Some(Power::Pending { .. })) => 2,
            _ => error::INVALID_PARAMETERS,
        }
    }

    /// If the vCPU was asked to start: it runs now, and this is where and with what in X0.
    pub fn take_start(&self, vcpu: usize) -> Option<(u64, u64)> {
        let mut vcpus = self.vcpus.lock();
        let slot = vcpus.get_mut(vcpu)?;
        match *slot {
            Power::Pending { entry, context } => {
                *slot = Power::On;
                Some((entry, context))
            }
            _ => None,
        }
    }

    /// The vCPU is off. Answers whether all are.
    pub fn off(&self, vcpu: usize) -> bool {
        let mut vcpus = self.vcpus.lock();
        if let Some(slot) = vcpus.get_mut(vcpu) {
            *slot = Power::Off;
        }
        vcpus.iter().all(|power| *power == Power::Off)
    }

    /// All off.
    pub fn reset(&self) {
        self.vcpus.lock().iter_mut().for_each(|power| *power = Power::Off);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_goes_from_off_to_pending_to_on_and_back() {
        let table = PowerTable::new(2);
        assert_eq!(table.info(1, 0), 1);
        assert_eq!(table.start(1, 0x4000_0000, 5), Ok(1));
        assert_eq!(table.info(1, 0), 2);
        assert_eq!(table.start(1, 0, 0), Err(error::ON_PENDING));
        assert_eq!(table.take_start(1), Some((0x4000_0000, 5)));
        assert_eq!(table.take_start(1), None);
        assert_eq!(table.info(1, 0), 0);
        assert_eq!(table.start(1, 0, 0), Err(error::ALREADY_ON));
        assert!(table.off(1));
        assert_eq!(table.start(1, 0x4000_0000, 5), Ok(1));
        for nobody in [2, 1 << 31, 0x100, 1 << 32 | 1, u64::MAX] {
            assert_eq!(table.start(nobody, 0, 0), Err(error::INVALID_PARAMETERS), "{nobody:#x}");
            assert_eq!(table.info(nobody, 0), error::INVALID_PARAMETERS);
        }
        assert_eq!(table.info(1, 1), error::INVALID_PARAMETERS);
    }
}
