//! One of the two: memory, an SMMU, and devices that read and write.

use anyhow::Result;

/// Which way a device copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From memory to its buffer.
    Read,
    /// From its buffer to memory.
    Write,
}

/// What one device is to do.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// The device.
    pub slot: usize,
    /// Address as the device sees it, a multiple of 8.
    pub address: u64,
    /// Which way.
    pub way: Way,
    /// First doubleword of its buffer, of [`BUFFER`].
    pub word: usize,
    /// Doublewords.
    pub words: usize,
}

/// Doublewords of a device's buffer.
pub const BUFFER: usize = 512;

/// Memory, an SMMU, and devices.
pub trait Witness {
    /// Its name, for messages.
    fn name(&self) -> &'static str;

    /// The doublewords at each of `places`.
    ///
    /// # Errors
    /// The machine is gone.
    fn load(&mut self, places: &[u64]) -> Result<Vec<u64>>;

    /// Stores doublewords, in order, each seen by the SMMU before any later write of a register.
    ///
    /// # Errors
    /// The machine is gone.
    fn store(&mut self, words: &[(u64, u64)]) -> Result<()>;

    /// A 32-bit register of the SMMU.
    ///
    /// # Errors
    /// The machine is gone.
    fn register(&mut self, offset: u64) -> Result<u32>;

    /// Writes one.
    ///
    /// # Errors
    /// The machine is gone.
    fn set_register(&mut self, offset: u64, value: u32) -> Result<()>;

    /// Writes a 64-bit register.
    ///
    /// # Errors
    /// The machine is gone.
    fn set_register64(&mut self, offset: u64, value: u64) -> Result<()>;

    /// Time passes: what is under way goes on.
    fn wait(&mut self);

    /// Whether its devices can read; else they only write.
    fn reads(&self) -> bool {
        true
    }

    /// What `before` in memory becomes when a device writes the doubleword `word` there.
    fn becomes(&self, before: u64, word: u64) -> u64 {
        let _all_of_it = before;
        word
    }

    /// Lets devices copy, each at most once, and waits until all have ended.
    ///
    /// # Errors
    /// The machine is gone, or a device does not end.
    fn transfer(&mut self, transfers: &[Transfer]) -> Result<()>;
}
