//! The proof that a function is idle.
//!
//! Idle means: bus mastering off, reset done and its wait over, the ID register
//! reads back, and no transaction pending where the function can tell. A
//! function that cannot tell also needs its settling time, which is counted by
//! whoever lets its stream abort.

use palisade_hal::{Deadline, Env};

use crate::ecam::Config;
use crate::function::Function;
use crate::regs::{advanced, express, header};
use crate::topology::Topology;
use crate::{Address, Error};

/// Longest wait for pending transactions to end, in milliseconds: above every
/// completion time-out in use (7.5.3.16).
pub const TRANSACTIONS_MS: u64 = 500;

/// A function was seen idle after a reset. Cannot be made outside this crate.
#[must_use = "without its proof a device stays quarantined"]
#[derive(Debug, PartialEq, Eq)]
pub struct IdleProof {
    address: Address,
    pending_known: bool,
}

impl IdleProof {
    /// The function that was proven idle.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Whether the function itself said that no transaction is pending; if not,
    /// its settling time must be over too.
    pub fn pending_known(&self) -> bool {
        self.pending_known
    }
}

/// Switches decoding, bus mastering and INTx off.
pub(crate) fn mute(config: Config<'_>) -> Result<(), Error> {
    config.write16(header::COMMAND, header::COMMAND_INTX_OFF);
    let command = config.read16(header::COMMAND);
    if command & header::COMMAND_MASTER != 0 {
        return Err(if command == u16::MAX {
            Error::Absent(config.address())
        } else {
            Error::BusMaster(config.address())
        });
    }
    Ok(())
}

/// Whether transactions are pending; `None` where the function cannot tell.
fn pending(function: &Function, config: Config<'_>) -> Option<bool> {
    if let Some(express) = function.express {
        let status = config.read16(express.offset.saturating_add(express::DEVICE_STATUS));
        return Some(status == u16::MAX || status & express::PENDING != 0);
    }
    let at = function.advanced?;
    Some(config.read8(at.saturating_add(advanced::STATUS)) & 1 != 0)
}

/// Waits until no transaction is pending.
pub(crate) fn drained(
    function: &Function,
    config: Config<'_>,
    env: &impl Env,
) -> Result<(), Error> {
    let deadline = Deadline::after(env, TRANSACTIONS_MS.saturating_mul(1000));
    match deadline.wait(env, || pending(function, config) != Some(true)) {
        true => Ok(()),
        false => Err(Error::Pending(function.address)),
    }
}

/// Looks at a function after its reset.
pub(crate) fn prove(
    function: &Function,
    config: Config<'_>,
    env: &impl Env,
) -> Result<IdleProof, Error> {
    mute(config)?;
    drained(function, config, env)?;
    if config.read32(header::ID) != function.id {
        return Err(Error::Changed(function.address));
    }
    Ok(IdleProof {
        address: function.address,
        pending_known: pending(function, config) == Some(false),
    })
}

impl Topology {
    /// Switches off decoding, bus mastering and INTx of a function that is not
    /// reset, because the operator said so, and waits until nothing is pending.
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub fn silence(&self, index: usize, env: &impl Env) -> Result<IdleProof, Error> {
        let Some(function) = self.functions.get(index) else {
            return Err(Error::Absent(Address::new(0, 0)));
        };
        prove(function, self.ecam.config(function.address), env)
    }
}
