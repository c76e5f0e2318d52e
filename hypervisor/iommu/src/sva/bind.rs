//! Binding substreams to processes.

use alloc::sync::Arc;

use palisade_hal::SubstreamId;

use super::{Notifier, Process};
use crate::pasid::{PasidError, Space, TableId};

/// A substream that translates by a process. Ended by [`unbind`]; dropped, the binding stays.
#[must_use = "a binding is ended by unbind"]
pub struct Bond {
    notifier: Arc<Notifier>,
    substream: SubstreamId,
}

impl Bond {
    /// The substream.
    pub fn substream(&self) -> SubstreamId {
        self.substream
    }

    /// The notifier of its table and process.
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }
}

/// Lets `substream` of `table` translate by `process`.
///
/// # Errors
/// [`PasidError::Bound`] if it translates for somebody, and those of [`Space::alloc_shared`];
/// everything is then as it was (a prepared entry stays prepared).
pub fn bind(
    space: &Space,
    table: TableId,
    substream: SubstreamId,
    process: &Arc<dyn Process>,
) -> Result<Bond, PasidError> {
    space.prepare(table, substream)?;
    let notifier = space.alloc_shared(table, process)?;
    if let Err(error) = space.write(table, substream, &notifier) {
        space.free_shared(&notifier)?;
        return Err(error);
    }
    Ok(Bond { notifier, substream })
}

/// Ends a binding: the substream is parked, its process's translations are forgotten.
///
/// # Errors
/// The driver's; the binding is ended all the same, and the ASID lost for good.
pub fn unbind(space: &Space, bond: Bond) -> Result<(), PasidError> {
    let quiesced = space.quiesce_for(bond.substream, &bond.notifier);
    let freed = space.free_shared(&bond.notifier);
    quiesced.and(freed)
}

/// Moves a bound substream to another process: parked, the old ASID invalidated, and only then
/// the new context published; every write is hitless.
///
/// # Errors
/// As [`bind`]; the old bond comes back with the error, and translates as before unless the
/// driver refused even that (it is then parked).
pub fn rebind(
    space: &Space,
    bond: Bond,
    process: &Arc<dyn Process>,
) -> Result<Bond, (Bond, PasidError)> {
    let (table, substream) = (bond.notifier.table(), bond.substream);
    let notifier = match space.alloc_shared(table, process) {
        Ok(notifier) => notifier,
        Err(error) => return Err((bond, error)),
    };
    let moved =
        space.quiesce(table, substream).and_then(|()| space.write(table, substream, &notifier));
    if let Err(error) = moved {
        // Back to the old process. Bound: it was never left; a process that has gone meanwhile
        // leaves the entry parked. A driver that fails on the way back is what is to be told.
        let back = space.write(table, substream, &bond.notifier);
        let freed = space.free_shared(&notifier);
        let error = match (back, freed) {
            (Err(worse @ PasidError::Driver(_)), _) | (_, Err(worse)) => worse,
            _ => error,
        };
        return Err((bond, error));
    }
    match space.free_shared(&bond.notifier) {
        Ok(()) => Ok(Bond { notifier, substream }),
        Err(error) => Err((Bond { notifier, substream }, error)),
    }
}
