//! Device registers played by a model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::PhysAddr;

/// Width of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One byte.
    Bits8,
    /// Two bytes.
    Bits16,
    /// Four bytes.
    Bits32,
    /// Eight bytes.
    Bits64,
}

/// What answers behind a fake register block. It sees each access at once, with
/// its offset, width and value.
pub trait Device: Send + Sync {
    /// A load.
    fn read(&self, offset: u64, width: Width) -> u64;
    /// A store.
    fn write(&self, offset: u64, width: Width, value: u64);
}

/// A pointer to a block of device registers, played by a [`Device`].
#[derive(Clone)]
pub struct Mmio {
    device: Arc<dyn Device>,
    base: u64,
    bytes: u64,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $width:ident) => {
        #[doc = concat!("One load of a `", stringify!($type), "` at `offset` bytes; 0 outside the block.")]
        pub fn $read(&self, offset: u64) -> $type {
            match self.at(offset, size_of::<$type>() as u64) {
                Some(at) => self.device.read(at, Width::$width) as $type,
                None => 0,
            }
        }

        #[doc = concat!("One store of a `", stringify!($type), "` at `offset` bytes; ignored outside the block.")]
        pub fn $write(&self, offset: u64, value: $type) {
            if let Some(at) = self.at(offset, size_of::<$type>() as u64) {
                self.device.write(at, Width::$width, u64::from(value));
            }
        }
    };
}

std::thread_local! {
    static BOARD: RefCell<BTreeMap<u64, Arc<dyn Device>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Puts a device on this thread's board, at `base`, for [`Mmio::new`] to find.
pub fn install(base: PhysAddr, device: Arc<dyn Device>) {
    BOARD.with_borrow_mut(|board| board.insert(base.get(), device));
}

/// Nothing answers: loads read 0.
struct Absent;

impl Device for Absent {
    fn read(&self, _offset: u64, _width: Width) -> u64 {
        0
    }

    fn write(&self, _offset: u64, _width: Width, _value: u64) {}
}

impl Mmio {
    /// The block of `bytes` bytes at `base` on this thread's board; reads 0 where
    /// nothing was [`install`]ed.
    ///
    /// # Safety
    /// None is needed here; the signature is the other twin's.
    pub unsafe fn new(base: PhysAddr, bytes: u64) -> Self {
        let device = BOARD.with_borrow(|board| board.get(&base.get()).cloned());
        Self::fake(device.unwrap_or_else(|| Arc::new(Absent)), bytes)
    }

    /// The block of `bytes` bytes that `device` plays.
    pub fn fake(device: Arc<dyn Device>, bytes: u64) -> Self {
        Self { device, base: 0, bytes }
    }

    /// Length of the block in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The sub-block of `bytes` bytes at `offset`, clipped to this block.
    pub fn slice(&self, offset: u64, bytes: u64) -> Self {
        let start = offset.min(self.bytes);
        Self {
            device: self.device.clone(),
            base: self.base + start,
            bytes: bytes.min(self.bytes - start),
        }
    }

    fn at(&self, offset: u64, width: u64) -> Option<u64> {
        assert!(offset.is_multiple_of(width), "misaligned register access at {offset:#x}");
        (offset.checked_add(width)? <= self.bytes).then_some(self.base + offset)
    }

    access!(read8, write8, u8, Bits8);
    access!(read16, write16, u16, Bits16);
    access!(read32, write32, u32, Bits32);
    access!(read64, write64, u64, Bits64);
}
