//! The flash bank in which firmware keeps its variables: two chips of 16 bits side by side with
//! the Intel command set (JEDEC JEP137, command set 0001), as firmware for QEMU's `virt` expects
//! them. What is kept lies in the VM's own memory and ends with it.

use alloc::sync::Arc;
use core::fmt;

use palisade_hal::Ipa;
use palisade_hal::lock::{Mutex, Rank};

use crate::layout::{VARIABLES_KEPT, VARIABLES_STORE};
use crate::memory::GuestMemory;
use crate::mmio::{Access, MmioDevice, Width};

/// Bytes that one erase command erases: 128 KiB of each chip.
const BLOCK: u64 = 256 << 10;
/// Bytes erased per step.
const PAGE: u64 = 4096;
/// Status: ready, without an error, of both chips.
const READY: u64 = 0x0080_0080_0080_0080;
/// The word after an erase or lock command, and after a buffer's words.
const CONFIRM: u8 = 0xd0;

/// What loads see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Array,
    Status,
    Identity,
}

/// What the next store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Command,
    Word,
    EraseConfirm,
    LockConfirm,
    BufferCount,
    /// So many words, then the confirmation.
    Buffer(u64),
}

/// A VM's bank of variables.
pub struct Flash {
    memory: Arc<GuestMemory>,
    state: Mutex<(Mode, Expect)>,
}

impl Flash {
    /// The bank whose contents lie in `memory` at [`VARIABLES_STORE`].
    pub fn new(memory: Arc<GuestMemory>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            state: Mutex::new(Rank::GuestFlash, (Mode::Array, Expect::Command)),
        })
    }

    /// Back to the state of power-on; the contents stay.
    pub fn reset(&self) {
        *self.state.lock() = (Mode::Array, Expect::Command);
    }

    /// Where byte `offset` of the bank is kept; what is beyond reads erased and cannot be written.
    fn kept(offset: u64, bytes: u64) -> Option<Ipa> {
        let end = offset.checked_add(bytes)?;
        (end <= VARIABLES_KEPT).then(|| Ipa::new(VARIABLES_STORE + offset))
    }

    fn contents(&self, offset: u64, width: Width) -> u64 {
        let mut bytes = [0xff; 8];
        let length = width.bytes() as usize;
        if let (Some(at), Some(part)) = (Self::kept(offset, width.bytes()), bytes.get_mut(..length))
        {
            self.memory.read(at, part);
        }
        u64::from_le_bytes(bytes)
    }

    /// Programming clears bits and sets none.
    fn program(&self, offset: u64, width: Width, value: u64) {
        let Some(at) = Self::kept(offset, width.bytes()) else { return };
        let bytes = (self.contents(offset, width) & value).to_le_bytes();
        self.memory.write(at, bytes.get(..width.bytes() as usize).unwrap_or_default());
    }

    /// Erases the block around `offset`: [`BLOCK`] bytes at most.
    fn erase(&self, offset: u64) {
        let first = offset & !(BLOCK - 1);
        for page in (first..first.saturating_add(BLOCK)).step_by(PAGE as usize) {
            let Some(at) = Self::kept(page, PAGE) else { return };
            self.memory.write(at, &[0xff; PAGE as usize]);
        }
    }
}

impl fmt::Debug for Flash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents are the guest's memory.
        f.debug_tuple("Flash").field(&*self.state.lock()).finish()
    }
}

/// The bank that holds firmware's code, for stores: its words are read-only memory, and there is no
/// command that changes them, as with a chip whose write line is tied off. Firmware that runs in
/// place stores to its own variables all the same, and takes it that nothing comes of it.
#[derive(Debug)]
pub struct Code;

impl MmioDevice for Code {
    /// Beyond the image it is erased.
    fn read(&self, access: Access) -> u64 {
        access.width.mask()
    }

    fn write(&self, _access: Access, _value: u64) {}
}

/// Fills the bank's contents as they leave the factory; false if they are not there.
pub fn erase_all(memory: &GuestMemory) -> bool {
    (0..VARIABLES_KEPT)
        .step_by(PAGE as usize)
        .all(|page| memory.write(Ipa::new(VARIABLES_STORE + page), &[0xff; PAGE as usize]))
}

impl MmioDevice for Flash {
    fn read(&self, access: Access) -> u64 {
        let (mode, _) = *self.state.lock();
        match mode {
            Mode::Array => self.contents(access.offset, access.width),
            Mode::Status => READY,
            // No identity and no lock bit: firmware that asks goes by the device tree.
            Mode::Identity => 0,
        }
    }

    fn write(&self, access: Access, value: u64) {
        let mut state = self.state.lock();
        let command = value as u8;
        *state = match state.1 {
            Expect::Word => {
                self.program(access.offset, access.width, value);
                (Mode::Status, Expect::Command)
            }
            Expect::EraseConfirm => {
                if command == CONFIRM {
                    self.erase(access.offset);
                }
                (Mode::Status, Expect::Command)
            }
            Expect::BufferCount => {
                (Mode::Status, Expect::Buffer((value & 0xffff).saturating_add(1)))
            }
            Expect::Buffer(left @ 1..) => {
                self.program(access.offset, access.width, value);
                (Mode::Status, Expect::Buffer(left.saturating_sub(1)))
            }
            Expect::Buffer(0) | Expect::LockConfirm => (Mode::Status, Expect::Command),
            Expect::Command => match command {
                0x10 | 0x40 => (Mode::Status, Expect::Word),
                0x20 => (Mode::Status, Expect::EraseConfirm),
                0x60 => (Mode::Status, Expect::LockConfirm),
                0xe8 => (Mode::Status, Expect::BufferCount),
                0x70 => (Mode::Status, Expect::Command),
                0x90 | 0x98 => (Mode::Identity, Expect::Command),
                // Clearing the status leaves what loads see.
                0x50 => (state.0, Expect::Command),
                _ => (Mode::Array, Expect::Command),
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use palisade_hal::PhysAddr;
    use palisade_iommu::Iommus;
    use palisade_mem::{Arena, FrameTables, Frames};
    use palisade_pgtable::{Registry, STAGE2_4K};

    use super::*;
    use crate::memory::Shape;

    fn memory(arena: &Arena) -> Arc<GuestMemory> {
        let registry = alloc::boxed::Box::leak(alloc::boxed::Box::new(Registry::new()));
        Registry::<FrameTables>::register(registry, &STAGE2_4K[0]).unwrap();
        let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
        let cpus = Arc::new(frames.register_agent("cpus").unwrap());
        let iommus = Arc::new(Iommus::new(4, 16));
        let owner = iommus.owners().open(0).unwrap();
        let shape = Shape { pa_bits: 44, vmid16: true, dma_bits: 44, dma_coherent: true };
        let memory = GuestMemory::new(frames, cpus, iommus, owner, shape, registry).unwrap();
        memory.add_ram(Ipa::new(VARIABLES_STORE), VARIABLES_KEPT, &[]).unwrap();
        assert!(erase_all(&memory));
        memory
    }

    fn at(offset: u64) -> Access {
        Access { vcpu: 0, offset, width: Width::Bits32 }
    }

    fn read(flash: &Flash, offset: u64) -> u64 {
        flash.read(at(offset)) & 0xffff_ffff
    }

    /// As firmware sends it to both chips.
    fn command(flash: &Flash, offset: u64, byte: u64) {
        flash.write(at(offset), byte << 16 | byte);
    }

    #[test]
    fn words_are_programmed_and_blocks_erased() {
        let arena = Arena::new(PhysAddr::new(0x8000_0000), 1024);
        let flash = Flash::new(memory(&arena));
        assert_eq!(read(&flash, 0x40), 0xffff_ffff, "erased");
        command(&flash, 0x40, 0x40);
        flash.write(at(0x40), 0x1234_5678);
        assert_eq!(read(&flash, 0x40), 0x0080_0080, "ready");
        command(&flash, 0x40, 0xff);
        assert_eq!(read(&flash, 0x40), 0x1234_5678);
        // Programming clears bits only.
        command(&flash, 0x40, 0x40);
        flash.write(at(0x40), 0xffff_0000);
        command(&flash, 0, 0xff);
        assert_eq!(read(&flash, 0x40), 0x1234_0000);
        // A buffer of two words in the second block, which the first block's erase leaves alone.
        command(&flash, BLOCK, 0xe8);
        command(&flash, BLOCK, 1);
        flash.write(at(BLOCK), 7);
        flash.write(at(BLOCK + 4), 8);
        command(&flash, BLOCK, 0xd0);
        command(&flash, 0x40, 0x20);
        command(&flash, 0x40, 0xd0);
        command(&flash, 0, 0xff);
        let words = [0x40, BLOCK, BLOCK + 4, BLOCK + 8].map(|offset| read(&flash, offset));
        assert_eq!(words, [0xffff_ffff, 7, 8, 0xffff_ffff]);
    }

    #[test]
    fn stores_to_the_code_change_nothing() {
        for value in [0x98, 0x20, 0xd0, 0] {
            Code.write(at(0x40), value);
            assert_eq!(Code.read(at(0x40)), 0xffff_ffff);
        }
    }

    #[test]
    fn nothing_is_kept_beyond_the_store_and_a_reset_reads_the_array() {
        let arena = Arena::new(PhysAddr::new(0x8000_0000), 1024);
        let flash = Flash::new(memory(&arena));
        for offset in [VARIABLES_KEPT - 2, VARIABLES_KEPT, u64::MAX - 3] {
            command(&flash, offset, 0x40);
            flash.write(at(offset), 0);
            command(&flash, offset, 0x20);
            command(&flash, offset, 0xd0);
        }
        command(&flash, 0, 0x90);
        assert_eq!(read(&flash, 8), 0, "no lock");
        flash.reset();
        assert_eq!(read(&flash, VARIABLES_KEPT), 0xffff_ffff);
        // Half a sequence before a reset does not go on behind it.
        command(&flash, 0, 0x40);
        flash.reset();
        flash.write(at(0), 0xff);
        assert_eq!(read(&flash, 0), 0xffff_ffff);
    }
}
