//! Says a line and powers off.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use palisade_payloads::platform::Platform;
use palisade_payloads::{payload, println};

payload!(main);

fn main(platform: &Platform<'_>) {
    let (base, size) = platform.ram;
    println!("hello from {base:#x}, {} KiB, {:?}", size >> 10, platform.bootargs);
}
