//! The arm64 Image header, EL2 entry, early page tables, secondary cores, exception vectors.
#![no_std]
#![allow(unsafe_code)]
