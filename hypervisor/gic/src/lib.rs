//! The physical GICv2 and GICv3, list registers, and the ITS.
#![no_std]
#![allow(unsafe_code)]
