//! What a call answers in X0.

/// Status of a call: 0, or a small negative number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Status {
    /// Done.
    Success = 0,
    /// The call, or what it asks for, is not offered.
    NotSupported = -1,
    /// An argument is malformed.
    Invalid = -2,
    /// No such device, binding, address space or ring of this VM.
    NotFound = -3,
    /// An IPA lies outside the VM's RAM.
    Outside = -4,
    /// Something else holds what is asked for.
    Busy = -5,
    /// A quota is used up, or the hypervisor's memory.
    NoMemory = -6,
    /// A word of the guest's own configuration or commands may not be said.
    Refused = -7,
    /// The IOMMU did not answer; what could be reached counts as reachable.
    Hardware = -8,
}

impl Status {
    /// The value of X0.
    pub const fn to_register(self) -> u64 {
        self as i64 as u64
    }

    /// The status that a value of X0 means.
    pub const fn from_register(value: u64) -> Option<Self> {
        Some(match value as i64 {
            0 => Self::Success,
            -1 => Self::NotSupported,
            -2 => Self::Invalid,
            -3 => Self::NotFound,
            -4 => Self::Outside,
            -5 => Self::Busy,
            -6 => Self::NoMemory,
            -7 => Self::Refused,
            -8 => Self::Hardware,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_back() {
        for value in -8i64..=0 {
            let status = Status::from_register(value as u64).unwrap();
            assert_eq!(status.to_register(), value as u64);
        }
        // SMCCC: a call that nobody offers answers −1 in 64 bits.
        assert_eq!(Status::NotSupported.to_register(), u64::MAX);
        assert_eq!(Status::from_register(1), None);
        assert_eq!(Status::from_register(-9i64 as u64), None);
    }
}
