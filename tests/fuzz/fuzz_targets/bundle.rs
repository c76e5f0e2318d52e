//! See `palisade_host::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_host::fuzz::{Reached, bundle};

fuzz_target!(|data: &[u8]| bundle(data, &mut Reached::default()));
