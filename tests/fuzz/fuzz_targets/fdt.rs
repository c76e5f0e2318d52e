//! See `palisade_host::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_host::fuzz::{Reached, fdt};

fuzz_target!(|data: &[u8]| fdt(data, &mut Reached::default()));
