//! A cpio archive with a manifest and images, validated.
#![no_std]
#![forbid(unsafe_code)]
