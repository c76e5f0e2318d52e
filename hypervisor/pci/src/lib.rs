//! PCI Express: ECAM, topology, capabilities, BARs, resets, requester groups; no notion of a VM.
#![no_std]
#![allow(unsafe_code)]
