//! The same structures, tables and transactions on the model (`palisade-smmu-model`) and on
//! QEMU's SMMU, and what each says came of them.
//!
//! A case writes an STE, what it leads to, and a device's accesses ([`Plan`]). It is played
//! through memory and registers only ([`play::play`]), so that both witnesses run the same code:
//! on QEMU by its test protocol, with devices that copy ([`Hand`]). What an access reached and what was
//! recorded must agree ([`compare`]), except where QEMU is known to be wrong ([`known::KNOWN`]).
#![forbid(unsafe_code)]

pub mod cases;
pub mod compare;
pub mod hand;
pub mod known;
pub mod place;
pub mod planted;
pub mod play;
pub mod qtest;
pub mod run;
pub mod scene;
pub mod seen;
pub mod words;

mod model;
mod qemu;
mod smmu;
mod tables;
mod witness;

pub use cases::Group;
pub use hand::Hand;
pub use model::Modelled;
pub use qemu::{Qemu, has};
pub use run::{Amount, Outcome, run};
pub use scene::Plan;
pub use smmu::Settings;
pub use witness::{Way, Witness};
