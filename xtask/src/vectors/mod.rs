//! `cargo xtask vectors`: the CSVs against the code, dispatched by file name.

mod command;
mod compared;
mod differences;
mod ground;
mod lpae;
mod lpae_map;
mod smmuv3;
mod table;
mod v7s;

pub use command::{test, vectors};
