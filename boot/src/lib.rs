//! The arm64 Image header, EL2 entry, early page tables, secondary cores, exception vectors.
//!
//! A board's binary names its main functions once with [`entry!`]; everything
//! from the first instruction to those functions is here:
//!
//! 1. `header`: the arm64 Image header.
//! 2. `entry`: checks the exception level, clears BSS, builds the first
//!    tables, turns the MMU and the caches on, calls the board's main.
//! 3. `map`: the hypervisor's own identity map. W^X, guard pages, and only
//!    ever invalid → valid, so that no break-before-make is needed.
//! 4. `secondary`: the other cores, by PSCI or from a spin table.
//! 5. `vectors`: exceptions taken at EL2 itself (fatal, on an emergency
//!    stack), and the doors through which guests come back to the hal.
//! 6. `power`: off, by PSCI; the exit status by semihosting.
#![no_std]
#![allow(unsafe_code)]
#![cfg(all(target_os = "none", target_arch = "aarch64"))]

mod area;
mod booted;
mod entry;
mod header;
mod image;
mod map;
mod power;
mod secondary;
mod vectors;

pub use palisade_hal::machine;
