//! Bare-metal guests.
#![no_std]
#![allow(unsafe_code)]
