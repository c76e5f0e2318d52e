//! All functions of a host.

use alloc::vec::Vec;

use crate::ecam::Ecam;
use crate::function::{Function, Header};
use crate::{Address, Error};

/// Most functions that are kept.
pub const MAX_FUNCTIONS: usize = 256;

/// All functions of a host, parents before children.
pub struct Topology {
    pub(crate) ecam: Ecam,
    pub(crate) functions: Vec<Function>,
    pub(crate) problems: Vec<Error>,
}

impl Topology {
    /// All functions, parents before children.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// What went wrong while enumerating, and with which function. The rest works.
    pub fn problems(&self) -> &[Error] {
        &self.problems
    }

    /// Configuration space.
    pub fn ecam(&self) -> &Ecam {
        &self.ecam
    }

    /// Index of the function at `address`.
    ///
    /// # Errors
    /// [`Error::Absent`].
    pub fn find(&self, address: Address) -> Result<usize, Error> {
        self.functions
            .iter()
            .position(|function| function.address == address)
            .ok_or(Error::Absent(address))
    }

    /// The function of this index.
    pub fn function(&self, index: usize) -> Option<&Function> {
        self.functions.get(index)
    }

    /// The bridges above a function, nearest first.
    pub fn bridges(&self, index: usize) -> impl Iterator<Item = (usize, &Function)> {
        let mut at = self.functions.get(index).and_then(|function| function.parent);
        core::iter::from_fn(move || {
            let bridge = at?;
            let function = self.functions.get(bridge)?;
            // Parents stand before their children, so this ends.
            at = function.parent.filter(|parent| *parent < bridge);
            Some((bridge, function))
        })
    }

    /// Whether function `index` lies somewhere behind bridge `bridge`.
    pub fn is_behind(&self, index: usize, bridge: usize) -> bool {
        self.bridges(index).any(|(above, _)| above == bridge)
    }

    /// Endpoints behind bridge `bridge`.
    pub fn behind(&self, bridge: usize) -> impl Iterator<Item = usize> {
        (0..self.functions.len()).filter(move |index| {
            self.functions.get(*index).is_some_and(|f| f.header == Header::Endpoint)
                && self.is_behind(*index, bridge)
        })
    }
}
