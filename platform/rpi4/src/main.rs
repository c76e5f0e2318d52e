//! Palisade for the Raspberry Pi 4. All that is the board's own stands in
//! `linker/rpi4.ld`; the rest comes from the device tree.
#![no_std]
#![no_main]
// Opted in: `entry!` names the functions that the boot code links against.
#![allow(unsafe_code)]

palisade_boot::entry!(
    main: palisade_core::start,
    secondary: palisade_core::secondary,
    refuse: palisade_core::refuse,
    fatal: palisade_core::fatal,
);
