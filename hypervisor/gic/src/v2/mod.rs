//! GICv2: everything through registers in memory; the guest's CPU interface is a page of the
//! hardware (GICV) that stage 2 shows to the guest.
mod driver;
#[cfg(test)]
mod tests;

pub use driver::{GicV2, GicV2Regions};
