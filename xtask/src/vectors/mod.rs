//! `cargo xtask vectors`: the CSVs against the code, dispatched by file name.

mod command;

pub use command::{test, vectors};
