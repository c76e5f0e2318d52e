//! Checks of what a guest says, on plain values.

use palisade_abi::Status;
use palisade_hal::Ipa;
use palisade_iommu::pasid::PasidError;
use palisade_iommu::sva::AddressSpace;
use palisade_iommu::{Capabilities, DriverError, Error};

use super::ram::{GuestRam, Kept, OutsideRam};

/// TCR_EL1 (DDI 0487, D24.2.203): T0SZ \[5:0\], IRGN0 \[9:8\], ORGN0 \[11:10\], SH0 \[13:12\], TG0
/// \[15:14\], IPS \[34:32\].
const TCR_FIELDS: u64 = 0x7_0000_ff3f;
/// Output sizes by IPS.
const OUTPUT_BITS: [u8; 6] = [32, 36, 40, 42, 44, 48];
/// A root table has at least 8 entries' worth of alignment.
const ROOT_ALIGN: u64 = 64;

/// An address space that a guest names, and its granule in bytes.
pub(super) fn address_space(
    table: u64,
    tcr: u64,
    mair: u64,
    stalls: bool,
    capabilities: &Capabilities,
    ram: &dyn GuestRam,
) -> Result<(AddressSpace, u64), Status> {
    if tcr & !TCR_FIELDS != 0 || !(16..=39).contains(&(tcr & 0x3f)) {
        return Err(Status::Invalid);
    }
    let granule: u64 = match tcr >> 14 & 3 {
        0 => 1 << 12,
        1 => 1 << 16,
        2 => 1 << 14,
        _ => return Err(Status::Invalid),
    };
    let shareable = tcr >> 12 & 3 != 1;
    let output = OUTPUT_BITS.get((tcr >> 32 & 7) as usize).copied();
    let fits = output.is_some_and(|bits| bits <= capabilities.output_bits.max(32));
    if granule & capabilities.granules == 0 || !shareable || !fits {
        return Err(Status::Invalid);
    }
    let root = Ipa::new(table);
    if !root.is_aligned(ROOT_ALIGN) {
        return Err(Status::Invalid);
    }
    if !ram.contains(root, ROOT_ALIGN) {
        return Err(Status::Outside);
    }
    Ok((AddressSpace { table, tcr, mair, stalls }, granule))
}

impl From<Kept> for Outcome {
    fn from(kept: Kept) -> Self {
        Self(match kept {
            Kept::Outside(_) => Status::Outside,
            Kept::NoMemory => Status::NoMemory,
            Kept::Hardware => Status::Hardware,
        })
    }
}

impl From<OutsideRam> for Outcome {
    fn from(_: OutsideRam) -> Self {
        Self(Status::Outside)
    }
}

/// A status on its way out, so that errors of other rooms turn into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome(pub(super) Status);

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl From<DriverError> for Outcome {
    fn from(error: DriverError) -> Self {
        Self(match error {
            DriverError::Timeout(_) | DriverError::InvalidationTimeout | DriverError::Dead => {
                Status::Hardware
            }
            DriverError::Unsupported(_) => Status::NotSupported,
            DriverError::Argument(_) => Status::Invalid,
            DriverError::Refused { .. } => Status::Refused,
            DriverError::NoMemory => Status::NoMemory,
            DriverError::UnknownStream(_) => Status::NotFound,
            DriverError::State(_) => Status::Busy,
        })
    }
}

impl From<PasidError> for Outcome {
    fn from(error: PasidError) -> Self {
        Self(match error {
            PasidError::Driver(error) => return error.into(),
            PasidError::Substream(_) | PasidError::BadAsid(_) => Status::Invalid,
            PasidError::Table | PasidError::NotBound(_) | PasidError::NoProcess => Status::NotFound,
            PasidError::Bound(_) | PasidError::AsidInUse(_) | PasidError::TableInUse => {
                Status::Busy
            }
            PasidError::NoAsid | PasidError::Quota => Status::NoMemory,
        })
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        Self(match error {
            Error::Driver(error) => return error.into(),
            Error::Mode => Status::Busy,
            Error::NoMemory | Error::Exhausted(_) => Status::NoMemory,
            // A device that was taken from the VM meanwhile is no device of it.
            _ => Status::NotFound,
        })
    }
}
