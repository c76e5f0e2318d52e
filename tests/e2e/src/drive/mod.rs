//! Who plays the host's part in a scenario: sends commands to payloads, reads memory, judges.

mod attack;
mod beats;
mod burst;
mod control;
mod disk;
pub mod exits;
mod gremlin;
mod guest;
mod honest;
mod isolation;
mod job;
mod keys;
mod linux;
mod linux_iommu;
mod operator;
mod reassign;
mod reboots;
mod restart;
mod states;
mod sva;
mod two_linux;

pub use guest::{GuestEnd, guest};
pub use job::{Job, run};
