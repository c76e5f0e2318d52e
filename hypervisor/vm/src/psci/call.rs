//! What a guest asks for by HVC, decoded; nothing here changes anything.

/// Error codes (DEN 0022, 5.2.2).
pub mod error {
    /// The call is unknown here.
    pub const NOT_SUPPORTED: i64 = -1;
    /// An argument makes no sense.
    pub const INVALID_PARAMETERS: i64 = -2;
    /// The vCPU runs.
    pub const ALREADY_ON: i64 = -4;
    /// The vCPU is about to run.
    pub const ON_PENDING: i64 = -5;
    /// The entry point is no memory of this VM.
    pub const INVALID_ADDRESS: i64 = -9;
}

/// What goes back in X0.
pub type Answer = i64;

/// PSCI version 1.1.
const PSCI_VERSION: i64 = 0x1_0001;
/// SMCCC version 1.1.
const SMCCC_VERSION: i64 = 0x1_0001;
/// MIGRATE_INFO_TYPE: there is no trusted OS that would have to move.
const NO_TRUSTED_OS: i64 = 2;

/// Function identifiers; bit 30 is the 64-bit convention.
mod id {
    pub const WIDE: u32 = 1 << 30;
    pub const SMCCC_VERSION: u32 = 0x8000_0000;
    pub const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
    pub const PSCI_VERSION: u32 = 0x8400_0000;
    pub const CPU_SUSPEND: u32 = 0x8400_0001;
    pub const CPU_OFF: u32 = 0x8400_0002;
    pub const CPU_ON: u32 = 0x8400_0003;
    pub const AFFINITY_INFO: u32 = 0x8400_0004;
    pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
    pub const SYSTEM_OFF: u32 = 0x8400_0008;
    pub const SYSTEM_RESET: u32 = 0x8400_0009;
    pub const PSCI_FEATURES: u32 = 0x8400_000a;
}

/// What the hypervisor has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Only an answer is due.
    Answer(Answer),
    /// Wait for an interrupt, then answer 0: every suspend state is a standby here.
    Suspend,
    /// The calling vCPU goes off.
    Off,
    /// A vCPU is to start.
    On {
        /// Its MPIDR, as the guest says.
        target: u64,
        /// Where.
        entry: u64,
        /// Its X0.
        context: u64,
    },
    /// What a vCPU is doing.
    AffinityInfo {
        /// Its MPIDR, as the guest says.
        target: u64,
        /// Lowest affinity level; only 0 is asked for since PSCI 1.0.
        level: u64,
    },
    /// The VM goes off.
    SystemOff,
    /// The VM starts anew.
    SystemReset,
    /// A call to this hypervisor itself (vendor specific hypervisor service).
    Vendor(u32),
}

/// A call as it stands in the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmcccCall {
    /// W0.
    pub function: u32,
    /// X1 to X3.
    pub arguments: [u64; 3],
}

impl SmcccCall {
    /// What the call asks for.
    pub fn decode(&self) -> Call {
        let wide = self.function & id::WIDE != 0;
        // The 32-bit convention passes the lower halves only (DEN 0028, 3.1).
        let [a, b, c] = self.arguments.map(|value| if wide { value } else { value & 0xffff_ffff });
        // Only these have a 64-bit form.
        let number = match self.function & !id::WIDE {
            number @ (id::CPU_SUSPEND | id::CPU_ON | id::AFFINITY_INFO) => number,
            _ => self.function,
        };
        match number {
            id::SMCCC_VERSION => Call::Answer(SMCCC_VERSION),
            id::SMCCC_ARCH_FEATURES => Call::Answer(match a as u32 {
                id::SMCCC_VERSION | id::SMCCC_ARCH_FEATURES => 0,
                _ => error::NOT_SUPPORTED,
            }),
            id::PSCI_VERSION => Call::Answer(PSCI_VERSION),
            id::CPU_SUSPEND => Call::Suspend,
            id::CPU_OFF => Call::Off,
            id::CPU_ON => Call::On { target: a, entry: b, context: c },
            id::AFFINITY_INFO => Call::AffinityInfo { target: a, level: b },
            id::MIGRATE_INFO_TYPE => Call::Answer(NO_TRUSTED_OS),
            id::SYSTEM_OFF => Call::SystemOff,
            id::SYSTEM_RESET => Call::SystemReset,
            id::PSCI_FEATURES => Call::Answer(features(a as u32)),
            // Owner 6: vendor specific hypervisor services (DEN 0028, 6.1).
            _ if self.function >> 31 == 1 && self.function >> 24 & 0x3f == 6 => {
                Call::Vendor(self.function)
            }
            _ => Call::Answer(error::NOT_SUPPORTED),
        }
    }
}

/// PSCI_FEATURES (DEN 0022, 5.15): 0 for what there is.
fn features(function: u32) -> Answer {
    match function {
        id::SMCCC_VERSION
        | id::PSCI_VERSION
        | id::CPU_OFF
        | id::MIGRATE_INFO_TYPE
        | id::SYSTEM_OFF
        | id::SYSTEM_RESET
        | id::PSCI_FEATURES => 0,
        function
            if matches!(function & !id::WIDE, id::CPU_SUSPEND | id::CPU_ON | id::AFFINITY_INFO) =>
        {
            0
        }
        _ => error::NOT_SUPPORTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: u32, arguments: [u64; 3]) -> Call {
        SmcccCall { function, arguments }.decode()
    }

    #[test]
    fn every_call_and_nothing_else() {
        assert_eq!(call(0x8400_0000, [0; 3]), Call::Answer(0x1_0001));
        assert_eq!(call(0xc400_0000, [0; 3]), Call::Answer(-1), "has no 64-bit form");
        let on = [1, 0x4008_0000, 7];
        let started = Call::On { target: 1, entry: 0x4008_0000, context: 7 };
        assert_eq!(call(0xc400_0003, on), started);
        assert_eq!(call(0x8400_0003, on.map(|value| value | 5 << 32)), started);
        assert_eq!(call(0x8400_0002, [0; 3]), Call::Off);
        assert_eq!(call(0xc400_0004, [3, 0, 0]), Call::AffinityInfo { target: 3, level: 0 });
        assert_eq!(call(0x8400_0006, [0; 3]), Call::Answer(2));
        assert_eq!(call(0x8400_0008, [0; 3]), Call::SystemOff);
        assert_eq!(call(0x8400_0009, [0; 3]), Call::SystemReset);
        assert_eq!(call(0xc400_0001, [0; 3]), Call::Suspend);
        assert_eq!(call(0x8000_0000, [0; 3]), Call::Answer(0x1_0001));
        assert_eq!(call(0x8000_0001, [0x8000_0000, 0, 0]), Call::Answer(0));
        assert_eq!(call(0x8000_0001, [0x8000_8000, 0, 0]), Call::Answer(-1));
        assert_eq!(call(0xc600_0005, [0; 3]), Call::Vendor(0xc600_0005));
        for unknown in [0u32, 1, 0x8400_0005, 0x8400_0007, 0x8400_0012, 0xc500_0000, !0] {
            assert_eq!(call(unknown, [0; 3]), Call::Answer(-1), "{unknown:#x}");
        }
    }

    #[test]
    fn features_say_what_is_there() {
        let features = |function| call(0x8400_000a, [function, 0, 0]);
        for there in [0x8400_0000u64, 0xc400_0003, 0x8400_0003, 0x8400_0008, 0x8000_0000] {
            assert_eq!(features(there), Call::Answer(0), "{there:#x}");
        }
        for absent in [0x8400_0012u64, 0x8400_0005, 0xc400_0008, 0x8000_0001] {
            assert_eq!(features(absent), Call::Answer(-1), "{absent:#x}");
        }
    }
}
