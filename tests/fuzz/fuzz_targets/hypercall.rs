//! See `palisade_host::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_host::fuzz::{Reached, hypercall};

fuzz_target!(|data: &[u8]| hypercall(data, &mut Reached::default()));
