//! Runs QEMU, takes its one UART apart, asks its monitor, and judges scenarios.
//!
//! | module | noun |
//! |---|---|
//! | [`qemu`] | the QEMU binary: where it is, how new it is |
//! | [`machine`] | one QEMU process: its arguments, its life, its end |
//! | [`monitor`] | QEMU's monitor (QMP): physical memory as the host sees it |
//! | [`wire`] | the multiplexed UART |
//! | [`record`] | the hypervisor's report records |
//! | [`session`] | a machine, its monitor and its wire together, and what they said so far |
//! | [`scenario`] | what a scenario file says |
//! | [`drive`] | who plays the host's part in a scenario |
//! | [`outcome`] | checks, verdict and the JSON report |
//! | [`console`] | how all this is shown on a terminal |
//! | [`interrupt`] | Ctrl-C |
#![forbid(unsafe_code)]

pub mod console;
pub mod drive;
pub mod interrupt;
pub mod machine;
pub mod monitor;
pub mod outcome;
pub mod qemu;
pub mod record;
pub mod scenario;
pub mod session;
pub mod wire;
