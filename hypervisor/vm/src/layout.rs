//! The one virtual platform: where a guest finds what, whatever the board is.

/// RAM starts here.
pub const RAM: u64 = palisade_bundle::RAM_BASE;
/// Where firmware's code is: its first instruction is the first byte.
pub const FLASH: u64 = 0;
/// Most bytes of it.
pub const FLASH_BYTES: u64 = 0x0400_0000;
/// The flash bank of firmware's variables.
pub const VARIABLES: u64 = 0x0400_0000;
/// Bytes of that bank.
pub const VARIABLES_BYTES: u64 = 0x0400_0000;
/// Where the guest's memory holds the contents of that bank; the device tree does not say so.
pub const VARIABLES_STORE: u64 = 0x0c00_0000;
/// Bytes that are kept; the rest of the bank reads erased.
pub const VARIABLES_KEPT: u64 = 768 << 10;
/// The interrupt controller's distributor, 64 KiB (GICv2: 4 KiB used).
pub const DISTRIBUTOR: u64 = 0x0800_0000;
/// Bytes of the distributor's region.
pub const DISTRIBUTOR_BYTES: u64 = 0x1_0000;
/// GICv2: the CPU interface, 8 KiB of hardware shown to the guest.
pub const CPU_INTERFACE: u64 = 0x0801_0000;
/// Bytes of the CPU interface.
pub const CPU_INTERFACE_BYTES: u64 = 0x2000;
/// GICv3: the interrupt translation service, two frames.
pub const ITS: u64 = 0x0808_0000;
/// Bytes of its two frames.
pub const ITS_BYTES: u64 = 0x2_0000;
/// The doorbell page of the translation service: in the DMA view only.
pub const DOORBELL: u64 = 0x0809_0000;
/// GICv3: the redistributors, 128 KiB each.
pub const REDISTRIBUTORS: u64 = 0x080a_0000;
/// The serial line, one page.
pub const UART: u64 = 0x0900_0000;
/// Bytes of its registers.
pub const UART_BYTES: u64 = 0x1000;
/// The serial line's interrupt: SPI 1.
pub const UART_INTID: u32 = 33;
/// Its clock in Hz.
pub const UART_CLOCK: u32 = 24_000_000;
/// The VM's own SMMUs, one after the other.
pub const SMMU: u64 = 0x0905_0000;
/// Bytes of an SMMU's registers: two pages of 64 KiB (IHI 0070, 6.1).
pub const SMMU_BYTES: u64 = 0x2_0000;
/// The most SMMUs of a VM.
pub const MAX_SMMUS: usize = 4;
/// The first SMMU's first interrupt, SPI 240: events, CMD_SYNC, errors; then the next one's.
pub const SMMU_INTID: u32 = 272;
/// Interrupts of an SMMU.
pub const SMMU_INTIDS: u32 = 3;
/// Registers of devices that the VM has by their device tree path.
pub const PLAIN: u64 = 0x0a00_0000;
/// Bytes of that window.
pub const PLAIN_BYTES: u64 = 0x0200_0000;
/// First interrupt of such devices: SPI 16.
pub const PLAIN_INTID: u32 = 48;
/// Context tables that devices fetch: in the DMA view only, read-only.
pub const CONTEXTS: u64 = 0x48_0000_0000;
/// Bytes of the window of context tables.
pub const CONTEXTS_BYTES: u64 = 1 << 32;
/// Bits of an IPA: start level 1, no concatenated roots.
pub const IPA_BITS: u8 = 39;

/// The virtual timer's interrupt (PPI 11).
pub const VIRTUAL_TIMER: u32 = 27;
/// The physical timer's interrupt (PPI 14).
pub const PHYSICAL_TIMER: u32 = 30;
