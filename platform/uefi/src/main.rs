//! `palisade.efi`.
#![cfg_attr(target_os = "uefi", no_main)]
#![cfg_attr(target_os = "uefi", no_std)]
// Opted in: it leaves the firmware, and jumps.
#![allow(unsafe_code)]

#[cfg(target_os = "uefi")]
extern crate alloc;
#[cfg(target_os = "uefi")]
mod bridges;
#[cfg(target_os = "uefi")]
mod cpu;
#[cfg(target_os = "uefi")]
mod files;
#[cfg(target_os = "uefi")]
mod handover;
#[cfg(target_os = "uefi")]
mod loader;
#[cfg(target_os = "uefi")]
mod physical;

#[cfg(not(target_os = "uefi"))]
fn main() {
    eprintln!("this program is for UEFI: build it for aarch64-unknown-uefi");
}
