//! Asks the CPU's own table walker (AT S12E1R and W, AT S1E1R and W) what it makes of tables that
//! `palisade-pgtable` built, on QEMU's virt machine at EL2, where no guest runs.
//!
//! For each shape of table (`shapes`) a set of mappings is made (`population`); the answers in
//! PAR_EL1 (`par`) are compared with what follows from that list alone, never with what the crate
//! says its table holds (`sweep`). Then one bit of one entry is turned over, and exactly the
//! addresses behind it must be found wrong (`flip`). Which shapes run depends on the CPU: those of
//! 48 bits, or, where FEAT_LPA2 and 52-bit addresses are there, those.
//!
//! One line per group goes to the UART, `on-target: GROUP: …`; the end is the exit status by
//! semihosting, 0 when every answer was right.
#![no_std]
#![no_main]
// Opted in: `entry!` names the functions that the boot code links against; the memory and
// the entry whose bit is turned over are pointers.
#![allow(unsafe_code)]

extern crate alloc;

mod flip;
mod group;
mod par;
mod population;
mod random;
mod shapes;
mod sweep;
mod walker;

use palisade_hal::machine::BootInfo;
use palisade_on_target::board;
use palisade_on_target::memory::{Memory, POOL};

fn start(info: BootInfo) -> ! {
    board::run(info, |_| {
        // SAFETY: the board has mapped the pool one to one, beside the image and the device tree,
        // and this runs once.
        let memory = unsafe { Memory::new(POOL) };
        group::all(&memory)
    })
}

palisade_boot::entry!(
    main: start,
    secondary: board::secondary,
    refuse: board::refuse,
    fatal: board::fatal,
);
