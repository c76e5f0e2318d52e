//! The physical Interrupt Translation Service and LPIs (IHI 0069, chapter 5 and 12.18).
//!
//! A device raises an LPI by writing an EventID to GITS_TRANSLATER; the ITS turns (DeviceID,
//! EventID) into an LPI and a collection, that is, a core. The command words are shared with the
//! virtual ITS, which decodes what a guest writes by the same definitions.

mod command;
mod device;
mod error;
mod lpi;
mod queue;
mod regs;
mod service;

pub use command::{Command, CommandError};
pub use error::ItsError;
pub use lpi::{FIRST_LPI, LpiTable};
pub use service::{BATCH, Deed, Its, Order};
