//! What can go wrong with a device.

use crate::Address;

/// Why an operation on a device failed; names the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers there.
    #[error("{0}: no such device")]
    Absent(Address),
    /// It answers with another identity than before.
    #[error("{0}: another device answers after the reset")]
    Changed(Address),
    /// It has neither function-level reset nor power management, and no port
    /// of its own above it.
    #[error("{0}: cannot be reset")]
    NoReset(Address),
    /// It did not come back in time.
    #[error("{0}: does not answer after its reset")]
    NotReady(Address),
    /// Its transactions did not end in time.
    #[error("{0}: has transactions pending")]
    Pending(Address),
    /// Its command register keeps what was written off.
    #[error("{0}: bus mastering cannot be switched off")]
    BusMaster(Address),
    /// A BAR did not find room, or does not hold its address.
    #[error("{0}: a BAR has no address")]
    Unplaced(Address),
    /// There are more functions than Palisade keeps.
    #[error("{0}: too many functions")]
    TooMany(Address),
    /// The bus numbers of the host are used up.
    #[error("{0}: no bus number left")]
    NoBus(Address),
    /// The host's maps lead its requester IDs to different SMMUs, or to none.
    #[error("{0}: its requester IDs do not lead to one SMMU")]
    SplitStreams(Address),
}

impl Error {
    /// The device to blame.
    pub fn address(&self) -> Address {
        match *self {
            Self::Absent(address)
            | Self::Changed(address)
            | Self::NoReset(address)
            | Self::NotReady(address)
            | Self::Pending(address)
            | Self::BusMaster(address)
            | Self::Unplaced(address)
            | Self::TooMany(address)
            | Self::NoBus(address)
            | Self::SplitStreams(address) => address,
        }
    }
}
