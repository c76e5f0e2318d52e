//! A device's wire, a physical shared interrupt, as it comes to a VM and leaves it.
use palisade_gic::{Gic, GicError};
use palisade_hal::{Deadline, Env};
use thiserror::Error;

use crate::Vm;

/// Longest that a vCPU may take to come out of its guest, in microseconds. It was sent an
/// interrupt, and no exit takes as long.
const PATIENCE: u64 = 1_000_000;

/// A wire does not leave its VM. It stays switched off, and is nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The interrupt controller does not settle.
    #[error("interrupt {0}: {1}; it stays off")]
    Controller(u32, GicError),
    /// A vCPU that has the interrupt in a list register did not come out of its guest.
    #[error("interrupt {0}: a vCPU did not give it back in time; it stays off")]
    Held(u32),
}

impl Vm {
    /// Takes a wire away while the VM runs. When this returns the physical interrupt is off, neither
    /// active nor pending, no vCPU has a list register that could end it, and nothing that the
    /// guest does from now on reaches it. What the guest has not ended stays active for it alone.
    ///
    /// # Errors
    /// [`WireError`]: the wire must not be given to anybody.
    pub fn take_wire(&self, wire: u32, gic: &impl Gic, env: &impl Env) -> Result<(), WireError> {
        gic.set_enabled(wire, false).map_err(|error| WireError::Controller(wire, error))?;
        if let Some(intid) = self.vgic().linked(wire) {
            self.vgic().unlink(intid);
            self.kick_pending(gic);
            let back = || !self.vgic().is_lent(intid);
            if !Deadline::after(env, PATIENCE).wait(env, back) {
                return Err(WireError::Held(wire));
            }
            self.vgic().forgive(intid);
        }
        gic.clear(wire).map_err(|error| WireError::Controller(wire, error))
    }
}
