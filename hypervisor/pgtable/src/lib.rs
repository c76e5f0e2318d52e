//! Page tables: one walker, every LPAE format, a registry indexed by format.
#![no_std]
#![forbid(unsafe_code)]
