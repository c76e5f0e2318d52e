//! A model of the SMMUv3 written from the manual alone: the driver's second, stricter witness.
#![forbid(unsafe_code)]
