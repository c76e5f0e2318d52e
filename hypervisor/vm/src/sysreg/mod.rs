//! System registers whose access traps (DDI 0487, D24).
mod access;
mod id;

pub use access::{Sysreg, SysregAccess, Treatment};
pub use id::{Features, IdRegisters};
