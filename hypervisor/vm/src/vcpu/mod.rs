//! vCPUs: each runs on its own core for as long as its VM lives.
//!
//! The order of one turn: the physical interrupts that brought it out are sorted (the guest's go
//! into its controller, the rest to the hypervisor), the exit is answered, other vCPUs are
//! kicked, the list registers filled, and the guest entered again.
mod abort;
mod decode;
#[cfg(test)]
mod decode_tests;
mod emulate;
#[cfg(test)]
mod emulate_tests;
mod exit;
mod host;
mod inject;
mod irq;
#[cfg(test)]
mod refused_tests;
#[cfg(test)]
mod reset_tests;
mod run;
mod skip;
#[cfg(test)]
mod tests;

pub use host::{Host, Outcome};
pub use run::run;
