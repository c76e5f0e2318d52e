//! What the SMMU sees of memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The interconnect answered an access with an external abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort;

/// Memory as the SMMU's own master port sees it.
///
/// It need not be what the CPU has written: an implementation may hold back
/// stores that no barrier or cache clean has published.
pub trait Memory: Send {
    /// Reads an aligned doubleword of a structure, table or queue.
    ///
    /// # Errors
    /// [`Abort`] where nothing answers.
    fn read64(&mut self, pa: u64) -> Result<u64, Abort>;

    /// Writes an aligned doubleword of a queue or descriptor.
    ///
    /// # Errors
    /// [`Abort`] where nothing answers.
    fn write64(&mut self, pa: u64, value: u64) -> Result<(), Abort>;

    /// Writes an aligned word: the payload of an MSI.
    ///
    /// # Errors
    /// [`Abort`] where nothing answers.
    fn write32(&mut self, pa: u64, value: u32) -> Result<(), Abort> {
        let word = self.read64(pa & !7)?;
        let shift = (pa & 4) * 8;
        let word = (word & !(0xffff_ffff << shift)) | (u64::from(value) << shift);
        self.write64(pa & !7, word)
    }

    /// A device's read of an aligned doubleword, after translation.
    ///
    /// # Errors
    /// [`Abort`] where nothing answers.
    fn device_read(&mut self, pa: u64) -> Result<u64, Abort> {
        self.read64(pa)
    }

    /// A device's write of an aligned doubleword, after translation.
    ///
    /// # Errors
    /// [`Abort`] where nothing answers.
    fn device_write(&mut self, pa: u64, value: u64) -> Result<(), Abort> {
        self.write64(pa, value)
    }
}

/// Sparse memory that hides nothing. Clones share the contents.
#[derive(Clone, Default)]
pub struct SparseMemory {
    words: Arc<Mutex<HashMap<u64, u64>>>,
}

impl SparseMemory {
    /// Memory full of zeroes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The doubleword at `pa` (rounded down to 8 bytes).
    pub fn get(&self, pa: u64) -> u64 {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.get(&(pa & !7)).copied().unwrap_or(0)
    }

    /// Stores the doubleword at `pa` (rounded down to 8 bytes).
    pub fn set(&self, pa: u64, value: u64) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.insert(pa & !7, value);
    }
}

impl Memory for SparseMemory {
    fn read64(&mut self, pa: u64) -> Result<u64, Abort> {
        Ok(self.get(pa))
    }

    fn write64(&mut self, pa: u64, value: u64) -> Result<(), Abort> {
        self.set(pa, value);
        Ok(())
    }
}
