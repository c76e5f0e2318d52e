//! What can go wrong with a device.

use crate::Address;

/// Why a BAR has no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Room {
    /// The host has no window for it.
    #[error("its host has no window for such addresses")]
    NoWindow,
    /// There are windows, all too full.
    #[error("no window for such addresses has room for it")]
    Full,
    /// A bridge above it is in the way.
    #[error("a bridge above it does not forward such addresses")]
    Bridge,
    /// The device reads back another.
    #[error("it does not hold what is written")]
    NotHeld,
}

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
    #[error("{0}: cannot be reset: no reset of its own, and no bridge above it")]
    NoReset(Address),
    /// Its only reset is that of its bus, on which there is another device.
    #[error("{device}: cannot be reset without {other}, which is on its bus")]
    ResetsOther {
        /// The device.
        device: Address,
        /// One that would be reset along with it.
        other: Address,
    },
    /// Its only reset is that of its bus, on which there is a bridge.
    #[error("{device}: cannot be reset: bridge {bridge} is on its bus and would lose its numbers")]
    ResetsBridge {
        /// The device.
        device: Address,
        /// A bridge on its bus.
        bridge: Address,
    },
    /// Its ACS is off and cannot be switched on.
    #[error("{0}: nothing keeps it from its neighbours, ACS stays off after its reset")]
    NotApart(Address),
    /// It did not come back in time.
    #[error("{0}: does not answer after its reset")]
    NotReady(Address),
    /// Its transactions did not end in time.
    #[error("{0}: has transactions pending")]
    Pending(Address),
    /// Its command register keeps what was written off.
    #[error("{0}: bus mastering cannot be switched off")]
    BusMaster(Address),
    /// A BAR has no address, or does not hold it; what was found out says
    /// [`NoRoom`](Self::NoRoom) when the host is enumerated.
    #[error("{0}: a BAR has no address")]
    Unplaced(Address),
    /// A BAR found no place.
    #[error("{device}: BAR {bar} has no address: {why}")]
    NoRoom {
        /// The device.
        device: Address,
        /// The BAR's register.
        bar: u8,
        /// Why not.
        why: Room,
    },
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
            | Self::NotApart(address)
            | Self::ResetsOther { device: address, .. }
            | Self::ResetsBridge { device: address, .. }
            | Self::NotReady(address)
            | Self::Pending(address)
            | Self::BusMaster(address)
            | Self::Unplaced(address)
            | Self::NoRoom { device: address, .. }
            | Self::TooMany(address)
            | Self::NoBus(address)
            | Self::SplitStreams(address) => address,
        }
    }
}
