//! Numbers and types of the guest hypercall interface, shared with guests.
#![no_std]
#![forbid(unsafe_code)]
