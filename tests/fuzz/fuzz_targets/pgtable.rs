//! See `palisade_host::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_host::fuzz::{Reached, pgtable};

fuzz_target!(|data: &[u8]| pgtable(data, &mut Reached::default()));
