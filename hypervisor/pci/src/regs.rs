//! Offsets and fields of configuration space, named as in the specification.

/// Type 0/1 Configuration Space Header (7.5.1).
pub mod header {
    /// Vendor ID and Device ID.
    pub const ID: u16 = 0x00;
    /// Command register (7.5.1.1.3).
    pub const COMMAND: u16 = 0x04;
    /// Status register (7.5.1.1.4).
    pub const STATUS: u16 = 0x06;
    /// Revision ID and Class Code.
    pub const CLASS: u16 = 0x08;
    /// Header Type.
    pub const HEADER_TYPE: u16 = 0x0e;
    /// Base Address Register 0.
    pub const BAR0: u16 = 0x10;
    /// Expansion ROM Base Address of a type 0 header.
    pub const ROM0: u16 = 0x30;
    /// Expansion ROM Base Address of a type 1 header.
    pub const ROM1: u16 = 0x38;
    /// Capabilities Pointer.
    pub const CAPABILITIES: u16 = 0x34;
    /// Interrupt Line.
    pub const INTERRUPT_LINE: u16 = 0x3c;
    /// Interrupt Pin.
    pub const INTERRUPT_PIN: u16 = 0x3d;
    /// Subsystem Vendor ID and Subsystem ID of a type 0 header.
    pub const SUBSYSTEM: u16 = 0x2c;

    /// Command: I/O Space Enable.
    pub const COMMAND_IO: u16 = 1 << 0;
    /// Command: Memory Space Enable.
    pub const COMMAND_MEMORY: u16 = 1 << 1;
    /// Command: Bus Master Enable.
    pub const COMMAND_MASTER: u16 = 1 << 2;
    /// Command: Interrupt Disable.
    pub const COMMAND_INTX_OFF: u16 = 1 << 10;
    /// Status: Interrupt Status.
    pub const STATUS_INTX: u16 = 1 << 3;
    /// Status: Capabilities List.
    pub const STATUS_CAPABILITIES: u16 = 1 << 4;
    /// Header Type: more than one function.
    pub const MULTI_FUNCTION: u8 = 0x80;
    /// Expansion ROM: decode on.
    pub const ROM_ENABLE: u32 = 1;
}

/// Type 1 header (7.5.1.3).
pub mod bridge {
    /// Primary, Secondary and Subordinate Bus Number.
    pub const BUSES: u16 = 0x18;
    /// I/O Base and Limit.
    pub const IO: u16 = 0x1c;
    /// Memory Base (low half) and Limit (high half), in units of 1 MiB.
    pub const MEMORY: u16 = 0x20;
    /// Prefetchable Memory Base and Limit.
    pub const PREFETCHABLE: u16 = 0x24;
    /// Upper 32 bits of the prefetchable base.
    pub const PREFETCHABLE_BASE_UPPER: u16 = 0x28;
    /// Upper 32 bits of the prefetchable limit.
    pub const PREFETCHABLE_LIMIT_UPPER: u16 = 0x2c;
    /// Upper 16 bits of I/O Base and Limit.
    pub const IO_UPPER: u16 = 0x30;
    /// Bridge Control.
    pub const CONTROL: u16 = 0x3e;
    /// Bridge Control: Secondary Bus Reset.
    pub const SECONDARY_RESET: u16 = 1 << 6;
}

/// Capability IDs (7.5, 7.7, 7.9).
pub mod capability {
    /// Power Management.
    pub const POWER: u8 = 0x01;
    /// MSI.
    pub const MSI: u8 = 0x05;
    /// Vendor-Specific.
    pub const VENDOR: u8 = 0x09;
    /// PCI Express.
    pub const EXPRESS: u8 = 0x10;
    /// MSI-X.
    pub const MSIX: u8 = 0x11;
    /// Advanced Features of a conventional device.
    pub const ADVANCED: u8 = 0x13;
}

/// Extended Capability IDs (7.6 to 7.9).
pub mod extended {
    /// Access Control Services.
    pub const ACS: u16 = 0x000d;
    /// Address Translation Services.
    pub const ATS: u16 = 0x000f;
    /// Single Root I/O Virtualisation.
    pub const SRIOV: u16 = 0x0010;
    /// Page Request Interface.
    pub const PRI: u16 = 0x0013;
    /// Resizable BAR.
    pub const REBAR: u16 = 0x0015;
    /// Process Address Space ID.
    pub const PASID: u16 = 0x001b;
    /// First byte of extended configuration space.
    pub const START: u16 = 0x100;
}

/// PCI Express capability (7.5.3), offsets from its start.
pub mod express {
    /// PCI Express Capabilities register.
    pub const CAPABILITIES: u16 = 0x02;
    /// Device Capabilities.
    pub const DEVICE_CAPABILITIES: u16 = 0x04;
    /// Device Control.
    pub const DEVICE_CONTROL: u16 = 0x08;
    /// Device Status.
    pub const DEVICE_STATUS: u16 = 0x0a;
    /// Device Capabilities: Function Level Reset Capability.
    pub const FLR: u32 = 1 << 28;
    /// Device Control: Max_Payload_Size.
    pub const PAYLOAD: u16 = 0b111 << 5;
    /// Device Control: Phantom Functions Enable.
    pub const PHANTOM_ENABLE: u16 = 1 << 9;
    /// Device Control: Initiate Function Level Reset.
    pub const INITIATE_FLR: u16 = 1 << 15;
    /// Device Status: Transactions Pending.
    pub const PENDING: u16 = 1 << 5;
    /// PCI Express Capabilities: Capability Version.
    pub const VERSION: u16 = 0xf;
}

/// Advanced Features capability (ECN to PCI 3.0), offsets from its start.
pub mod advanced {
    /// AF Capabilities.
    pub const CAPABILITIES: u16 = 0x03;
    /// AF Control.
    pub const CONTROL: u16 = 0x04;
    /// AF Status.
    pub const STATUS: u16 = 0x05;
    /// AF Capabilities: Transactions Pending is implemented.
    pub const TP: u8 = 1 << 0;
    /// AF Capabilities: FLR is implemented.
    pub const FLR: u8 = 1 << 1;
}

/// Power Management capability (7.5.2), offsets from its start.
pub mod power {
    /// Power Management Control/Status.
    pub const CONTROL: u16 = 0x04;
    /// PMCSR: power state.
    pub const STATE: u16 = 0b11;
    /// PMCSR: the state D3hot.
    pub const D3HOT: u16 = 0b11;
    /// PMCSR: No_Soft_Reset.
    pub const NO_SOFT_RESET: u16 = 1 << 3;
}

/// ATS Extended Capability (10.5.1), offsets from its start.
pub mod ats {
    /// ATS Control Register: STU \[4:0\].
    pub const CONTROL: u16 = 6;
    /// ATS is enabled.
    pub const CONTROL_ENABLE: u16 = 1 << 15;
}

/// Page Request Extended Capability (10.5.2), offsets from its start.
pub mod pri {
    /// Page Request Control register; bit 0 enables it.
    pub const CONTROL: u16 = 4;
}

/// PASID Extended Capability (7.8.8), offsets from its start.
pub mod pasid {
    /// PASID Control register; bit 0 enables it.
    pub const CONTROL: u16 = 6;
}

/// SR-IOV Extended Capability (9.3.3), offsets from its start.
pub mod sriov {
    /// SR-IOV Control register.
    pub const CONTROL: u16 = 8;
    /// Virtual functions exist.
    pub const VF_ENABLE: u16 = 1 << 0;
    /// Virtual functions decode memory.
    pub const VF_MEMORY: u16 = 1 << 3;
}

/// ACS Extended Capability (7.7.8), offsets from its start.
pub mod acs {
    /// ACS Capability register.
    pub const CAPABILITY: u16 = 0x04;
    /// ACS Control register.
    pub const CONTROL: u16 = 0x06;
    /// Source Validation.
    pub const SOURCE_VALIDATION: u16 = 1 << 0;
    /// P2P Request Redirect.
    pub const REQUEST_REDIRECT: u16 = 1 << 2;
    /// P2P Completion Redirect.
    pub const COMPLETION_REDIRECT: u16 = 1 << 3;
    /// Upstream Forwarding.
    pub const UPSTREAM_FORWARDING: u16 = 1 << 4;
    /// What a port needs so that its devices are apart from others.
    pub const ISOLATING: u16 =
        SOURCE_VALIDATION | REQUEST_REDIRECT | COMPLETION_REDIRECT | UPSTREAM_FORWARDING;
    /// What a function of a multi-function device needs.
    pub const ISOLATING_FUNCTION: u16 = REQUEST_REDIRECT | COMPLETION_REDIRECT;
}

/// MSI-X capability (7.7.2), offsets from its start.
pub mod msix {
    /// Message Control.
    pub const CONTROL: u16 = 0x02;
    /// Table Offset and BIR.
    pub const TABLE: u16 = 0x04;
    /// PBA Offset and BIR.
    pub const PBA: u16 = 0x08;
    /// Message Control: MSI-X Enable.
    pub const ENABLE: u16 = 1 << 15;
    /// Message Control: Function Mask.
    pub const MASK_ALL: u16 = 1 << 14;
    /// Message Control: Table Size, less one.
    pub const SIZE: u16 = 0x7ff;
}

/// MSI capability (7.7.1), offsets from its start.
pub mod msi {
    /// Message Control.
    pub const CONTROL: u16 = 0x02;
    /// Message Control: MSI Enable.
    pub const ENABLE: u16 = 1 << 0;
    /// Message Control: Multiple Message Enable.
    pub const MULTIPLE_ENABLE: u16 = 0b111 << 4;
    /// Message Control: the address has 64 bits.
    pub const WIDE: u16 = 1 << 7;
    /// Message Control: mask and pending bits for each vector.
    pub const MASKS: u16 = 1 << 8;
    /// Message Address, lower 32 bits.
    pub const ADDRESS: u16 = 0x04;
}
