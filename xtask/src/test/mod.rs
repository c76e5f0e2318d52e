//! `cargo xtask test`: everything there is to test, and one line with the sum.

mod boards;
mod boards_alike;
mod host;
pub mod invalidation;
mod kernels;
mod long;
mod mutants;
mod on_target;
mod planted;
mod rows;
mod run;
mod tables;
mod tally;
mod uefi;
mod witnesses;
mod words;

pub use run::test;
pub use tally::Tally;
