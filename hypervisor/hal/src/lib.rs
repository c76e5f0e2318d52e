//! The only crate that knows the CPU: barriers, caches, TLBs, system registers, MMIO, addresses, ids.
#![no_std]
#![allow(unsafe_code)]
