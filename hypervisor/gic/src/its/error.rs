//! Errors of the physical ITS.

use palisade_mem::FrameError;
use thiserror::Error;

/// Why the ITS could not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ItsError {
    /// The hardware lacks something; the word names it.
    #[error("ITS: not supported: {0}")]
    Unsupported(&'static str),
    /// A register or the command queue did not answer before its deadline.
    #[error("ITS: no answer in time: {0}")]
    Timeout(&'static str),
    /// The queue stalled on a command that the hardware refuses (GITS_CREADR.Stalled).
    #[error("ITS: command {0:#04x} refused by the hardware")]
    Refused(u8),
    /// A DeviceID, EventID or core outside what the tables hold.
    #[error("ITS: {0} {1:#x} is out of range")]
    Range(&'static str, u64),
    /// The device is mapped already, or not mapped.
    #[error("ITS: device {0:#x} is in the wrong state for this")]
    Device(u32),
    /// All LPIs are in use.
    #[error("ITS: no free LPI")]
    NoLpi,
    /// No memory for a table.
    #[error("ITS: {0}")]
    Memory(#[from] FrameError),
}
