//! See `palisade_host::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_host::fuzz::{Reached, virtual_smmu};

fuzz_target!(|data: &[u8]| virtual_smmu(data, &mut Reached::default()));
