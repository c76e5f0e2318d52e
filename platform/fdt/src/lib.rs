//! Flattened device tree bytes to BoardInfo, validated before anything trusts them.
#![no_std]
#![forbid(unsafe_code)]
