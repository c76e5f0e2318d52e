//! Devices that are known by their place in the device tree only.

use arrayvec::{ArrayString, ArrayVec};

use crate::{Interrupt, Range};

/// Longest path of a device, in bytes.
pub const MAX_DEVICE_PATH: usize = 80;

/// A device outside PCI, as the device tree describes it. Texts are borrowed from the
/// tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainDevice<'a> {
    /// Its full path, unit addresses included.
    pub path: ArrayString<MAX_DEVICE_PATH>,
    /// Its `compatible`: texts, each with a NUL at its end.
    pub compatible: &'a [u8],
    /// Its register ranges, in CPU addresses.
    pub registers: ArrayVec<Range, 8>,
    /// Its interrupts.
    pub interrupts: ArrayVec<Interrupt, 16>,
    /// Why it may be able to access memory by itself, if it may.
    pub bus_master: Option<BusMaster>,
    /// SMMU phandle and StreamID of each of its streams (`iommus`).
    pub streams: ArrayVec<(u32, u32), 4>,
    /// Enabled devices whose registers share a page of 4 KiB with its own.
    pub neighbours: ArrayVec<ArrayString<MAX_DEVICE_PATH>, 8>,
    /// Enabled devices that pull one of its interrupt lines too.
    pub line_sharers: ArrayVec<ArrayString<MAX_DEVICE_PATH>, 8>,
}

/// Why a device must be taken for one that accesses memory by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusMaster {
    /// It has `dma-ranges` or `dma-coherent` of its own.
    DmaProperty,
    /// It is a DMA engine.
    DmaEngine,
    /// It is a PCI host.
    Pci,
    /// A USB controller.
    Usb,
    /// A network controller.
    Ethernet,
    /// An SD or MMC host.
    SdHost,
    /// A mailbox to firmware that accesses memory on request.
    Mailbox,
    /// A virtio transport outside every IOMMU.
    Virtio,
    /// A display, camera or codec.
    Media,
    /// An IOMMU, interrupt controller or another part of the machine that a
    /// VM must never own.
    System,
    /// Nothing says that it is not one.
    Unknown,
}

impl BusMaster {
    /// The reason in words, for messages.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::DmaProperty => "its device tree node has DMA properties",
            Self::DmaEngine => "it is a DMA engine",
            Self::Pci => "it is a PCI host",
            Self::Usb => "it is a USB controller",
            Self::Ethernet => "it is a network controller",
            Self::SdHost => "it is an SD/MMC host",
            Self::Mailbox => "it is a mailbox to firmware that accesses memory",
            Self::Virtio => "it is a virtio device outside every IOMMU",
            Self::Media => "it is a display, camera or codec",
            Self::System => "it is part of the machine itself",
            Self::Unknown => "nothing says that it is not a bus master",
        }
    }
}
