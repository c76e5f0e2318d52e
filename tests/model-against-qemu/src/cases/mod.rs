//! The cases, by what they are about.

mod config;
mod group;
mod invalidate;
mod nested;
mod stage1;
mod stage2;

pub mod random;

pub use group::{Group, written};
