//! BoardInfo: what a machine has; types only.
#![no_std]
#![forbid(unsafe_code)]
