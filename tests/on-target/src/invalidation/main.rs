//! Counts the instructions of every kind of invalidation of `palisade-smmuv3`, on QEMU's virt
//! machine at EL2, where no guest runs, with the PMU (QEMU counts with `-icount` only), and
//! compares them with what the driver states in `palisade_smmuv3::bound`.
//!
//! The driver is the real one on the real register pointer. The SMMUs (`smmus`) are QEMU's, which
//! is done with a command before the driver can look, and SMMUs on paper (`paper`) for what that
//! one does not have: single invalidations, device TLBs, EL2 regimes, messages, a view of memory
//! without the caches, and answers that come late or never. The calls (`paths`) are all arguments
//! that could be the worst of their kind.
//!
//! One line per SMMU and kind of call goes to the UART (`verdict`), one per planted mistake
//! (`planted`), and one per operation that the bench tells of (`operations`); the end is the exit status by semihosting, 0 when all bounds hold and mean
//! something.
#![no_std]
#![no_main]
// Opted in: `entry!` names the functions that the boot code links against; registers, queues and
// memory are pointers.
#![allow(unsafe_code)]

extern crate alloc;

mod count;
mod operations;
mod paper;
mod paths;
mod planted;
mod refusals;
mod smmus;
mod time_out;
mod verdict;

use palisade_hal::machine::BootInfo;
use palisade_on_target::board;

fn start(info: BootInfo) -> ! {
    board::run(info, smmus::all)
}

palisade_boot::entry!(
    main: start,
    secondary: board::secondary,
    refuse: board::refuse,
    fatal: board::fatal,
);
