//! Host tests that join several crates: the driver against the model, sabotage, invariants.
//!
//! A [`Machine`] is a model SMMU behind fake registers, looking at an arena through a
//! [`View`] that shows it the CPU's stores only when a barrier or a clean has published them,
//! or earlier by chance. A [`World`] on it has devices, domains and a ledger of who may reach
//! what at this instant; devices try at every instant in between.
#![forbid(unsafe_code)]

mod clock;
mod extent;
mod firmware;
pub mod fuzz;
mod ledger;
mod machine;
mod ownership;
mod run;
mod sabotage;
pub mod seeds;
mod setup;
mod sharing;
mod tables;
mod traffic;
mod view;
pub mod virtual_smmu;
mod world;

pub use clock::ModelClock;
pub use ledger::{Ledger, Page};
pub use machine::{Devices, Machine};
pub use run::{Tally, run};
pub use sabotage::{CommandFault, Sabotage, Site, StoreFault};
pub use setup::{Injections, Setup};
pub use sharing::{Sharing, SharingTally, share};
pub use traffic::Violation;
pub use view::{View, ViewMemory};
pub use world::World;
