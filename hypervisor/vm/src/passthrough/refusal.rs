//! Why a VM does not get a device.

use palisade_bundle::Requester;
use palisade_pci::Address;

/// Why a VM does not get a device. Names the device, and whoever is to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The machine has no such device.
    #[error("device {0}: the machine has no such device")]
    Absent(Address),
    /// It is a bridge or a part of the host itself.
    #[error("device {0}: is a bridge or part of the host")]
    NotAssignable(Address),
    /// Another VM, or another line of the same manifest, has it.
    #[error("device {device}: already claimed by VM {vm}")]
    Claimed {
        /// The device.
        device: Address,
        /// Index of the VM that has it.
        vm: u16,
    },
    /// It has not been proven idle since its last owner.
    #[error("device {0}: quarantined, it was not proven idle after its last owner")]
    Quarantined(Address),
    /// It faulted more than it may, and the operator has not reset it since.
    #[error("device {0}: contained for too many faults, `reset {0}` ends that")]
    Contained(Address),
    /// Something about it did not answer.
    #[error("device {0}: dead, it or its SMMU did not answer")]
    Dead(Address),
    /// It cannot be told apart from a device that the VM does not ask for.
    #[error("device {device}: shares a group with {other}, which the VM does not have")]
    Split {
        /// The device.
        device: Address,
        /// One that would have to come along.
        other: Address,
    },
    /// Nothing could keep its DMA inside the VM.
    #[error(
        "device {0}: no SMMU stands before it and the manifest does not say dma_isolation = \"none\""
    )]
    NoSmmu(Address),
    /// What stands before it could not keep its DMA inside the VM.
    #[error(
        "device {device}: SMMU {phandle:#x} has no stage 2 and the manifest does not say dma_isolation = \"none\""
    )]
    NoStageTwo {
        /// The device.
        device: Address,
        /// The SMMU's phandle.
        phandle: u32,
    },
    /// It cannot be reset.
    #[error("device {0}; its manifest entry does not say reset = \"none\"")]
    NoReset(palisade_pci::Error),
    /// A guest's scan of its buses does not come there.
    #[error("device {device}: a guest does not find {guest:#06x}: {reason}")]
    Hidden {
        /// The device.
        device: Address,
        /// Where the guest would see it.
        guest: u16,
        /// Why not.
        reason: &'static str,
    },
    /// Two devices at one place of the guest's bus.
    #[error("device {device}: guest address {guest:#06x} is taken")]
    GuestAddress {
        /// The device.
        device: Address,
        /// Where the guest would see it.
        guest: u16,
    },
    /// It did not do what it was told.
    #[error("device {0}")]
    Device(palisade_pci::Error),
    /// The IOMMU core refused.
    #[error("device {device}: {error}")]
    Iommu {
        /// The device.
        device: Address,
        /// What the core said.
        error: palisade_iommu::Error,
    },
}

/// Where a manifest's device is.
pub(super) fn address(place: Requester) -> Address {
    Address::new(place.segment, place.bdf)
}
