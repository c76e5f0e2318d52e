//! Palisade for QEMU's virt machine with every page-table format registered: not shipped, but
//! tested and weighed.
#![no_std]
#![no_main]
// Opted in: `entry!` names the functions that the boot code links against.
#![allow(unsafe_code)]

palisade_boot::entry!(
    main: palisade_core::start_with_all_formats,
    secondary: palisade_core::secondary,
    refuse: palisade_core::refuse,
    fatal: palisade_core::fatal,
);
