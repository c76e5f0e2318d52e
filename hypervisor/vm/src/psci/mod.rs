//! PSCI 1.1 (DEN 0022) and the calls of SMCCC 1.1 about itself (DEN 0028), as a guest makes them.
mod call;
mod power;

pub use call::{Answer, Call, SmcccCall, error};
pub use power::{Power, PowerTable, affinity};
