//! What programs share that ask the machine itself at EL2, on QEMU's virt machine, where no guest
//! runs: the board, and memory for what they build.
//!
//! Their lines go to the UART, `on-target: …`; the end is the exit status by semihosting, 0 when
//! every answer was right.
#![no_std]
// Opted in: the UART, the heap and the direct map over the frames are pointers.
#![allow(unsafe_code)]

extern crate alloc;

pub mod board;
pub mod memory;
