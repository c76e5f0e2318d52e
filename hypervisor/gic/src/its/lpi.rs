//! LPIs: their numbers, and the configuration and pending tables (IHI 0069, 5.1).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::PhysAddr;
use palisade_hal::barrier;
use palisade_hal::mmio::Mmio;
use palisade_mem::{DmaBuffer, Frames};

use super::ItsError;
use super::regs::{
    CACHE_RAWAWB, GICR_CTLR, GICR_PENDBASER, GICR_PROPBASER, GICR_TYPER, INNER_SHAREABLE, R_CTLR,
    R_PENDBASER, R_PROPBASER, R_TYPER,
};

/// The first LPI's INTID (IHI 0069, 2.2).
pub const FIRST_LPI: u32 = 8192;
/// INTIDs are 14 bits wide here: 8192 LPIs, one page per two thousand.
const ID_BITS: u64 = 14;
const LPIS: u32 = (1 << ID_BITS) - FIRST_LPI;
/// Bits 7:2 of a configuration byte are the priority, bit 1 is RES1, bit 0 enables (5.1.1).
const RES1: u8 = 1 << 1;
const ENABLE: u8 = 1 << 0;

/// All LPIs of the machine: who holds which, and how each is configured.
#[derive(Debug)]
pub struct LpiTable {
    config: DmaBuffer,
    taken: Vec<AtomicU64>,
    frames: Arc<Frames>,
}

impl LpiTable {
    /// Tables for every LPI, all disabled and free.
    ///
    /// # Errors
    /// [`ItsError::Memory`].
    pub fn new(frames: &Arc<Frames>) -> Result<Self, ItsError> {
        let config = DmaBuffer::new(frames, u64::from(LPIS), true)?;
        let disabled = u64::from_ne_bytes([RES1 | 0xa0; 8]);
        for word in 0..(LPIS / 8) as usize {
            config.store(word, disabled);
        }
        config.publish(0, (LPIS / 8) as usize);
        let taken = (0..LPIS / 64).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { config, taken, frames: frames.clone() })
    }

    /// Points a core's redistributor at the tables and enables LPIs there.
    /// Returns the number that stands for it in ITS commands.
    ///
    /// # Errors
    /// [`ItsError::Unsupported`] without physical LPIs, or when firmware left them enabled with
    /// tables that are not ours; [`ItsError::Memory`].
    pub fn init_redistributor(
        &self,
        rd: &Mmio,
        base: PhysAddr,
        by_address: bool,
    ) -> Result<u64, ItsError> {
        let typer = rd.read(R_TYPER);
        if !typer.is_set(GICR_TYPER::PLPIS) {
            return Err(ItsError::Unsupported("physical LPIs"));
        }
        if rd.read(R_CTLR).is_set(GICR_CTLR::EnableLPIs) {
            return Err(ItsError::Unsupported("LPIs already enabled by firmware"));
        }
        rd.write(
            R_PROPBASER,
            GICR_PROPBASER::InnerCache.val(CACHE_RAWAWB)
                + GICR_PROPBASER::Shareability.val(INNER_SHAREABLE)
                + GICR_PROPBASER::Address.val(self.config.pa().get() >> 12)
                + GICR_PROPBASER::IDbits.val(ID_BITS - 1),
        );
        // One bit per INTID, aligned to 64 KiB; it belongs to the hardware from now on.
        let pending = DmaBuffer::new(&self.frames, 64 * 1024, true)?;
        rd.write(
            R_PENDBASER,
            GICR_PENDBASER::PTZ::SET
                + GICR_PENDBASER::InnerCache.val(CACHE_RAWAWB)
                + GICR_PENDBASER::Shareability.val(INNER_SHAREABLE)
                + GICR_PENDBASER::Address.val(pending.pa().get() >> 16),
        );
        barrier::dsb_sy();
        rd.write(R_CTLR, GICR_CTLR::EnableLPIs::SET);
        barrier::dsb_sy();
        Ok(Self::target(rd, base, by_address))
    }

    /// The number that stands for a redistributor in the commands of an ITS: another ITS may name
    /// it in the other way.
    pub fn target(rd: &Mmio, base: PhysAddr, by_address: bool) -> u64 {
        match by_address {
            true => base.get() >> 16,
            false => rd.read(R_TYPER).read(GICR_TYPER::Processor_Number),
        }
    }

    /// Takes a free LPI.
    ///
    /// # Errors
    /// [`ItsError::NoLpi`].
    pub fn alloc(&self) -> Result<u32, ItsError> {
        for (index, word) in self.taken.iter().enumerate() {
            let mut seen = word.load(Ordering::Relaxed);
            while seen != u64::MAX {
                let bit = (!seen).trailing_zeros();
                let taken = seen | 1 << bit;
                match word.compare_exchange_weak(seen, taken, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => return Ok(FIRST_LPI + index as u32 * 64 + bit),
                    Err(now) => seen = now,
                }
            }
        }
        Err(ItsError::NoLpi)
    }

    /// Gives an LPI back, after its event was discarded.
    pub fn free(&self, lpi: u32) {
        self.configure(lpi, false, 0xa0);
        let index = lpi.wrapping_sub(FIRST_LPI);
        if let Some(word) = self.taken.get((index / 64) as usize) {
            word.fetch_and(!(1 << (index % 64)), Ordering::AcqRel);
        }
    }

    /// How many LPIs are taken.
    pub fn in_use(&self) -> u32 {
        self.taken.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }

    /// Writes an LPI's configuration byte; it holds once INV or INVALL was executed.
    pub fn configure(&self, lpi: u32, enabled: bool, priority: u8) {
        let index = lpi.wrapping_sub(FIRST_LPI);
        if index >= LPIS {
            return;
        }
        let byte = priority & 0xfc | RES1 | if enabled { ENABLE } else { 0 };
        let (slot, shift) = ((index / 8) as usize, index % 8 * 8);
        let Some(word) = self.config.words().get(slot) else { return };
        let mask = 0xff << shift;
        let mut old = word.load(Ordering::Relaxed);
        loop {
            let new = old & !mask | u64::from(byte) << shift;
            match word.compare_exchange_weak(old, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
        self.config.publish(slot, 1);
    }
}
