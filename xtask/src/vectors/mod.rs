//! `cargo xtask vectors`: the CSVs against the code, dispatched by file name.

mod command;
mod compared;
mod smmuv3;
mod table;

pub use command::{test, vectors};
