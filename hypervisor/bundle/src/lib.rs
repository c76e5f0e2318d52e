//! A cpio archive with a manifest and images, validated.
//!
//! ```text
//! bundle.cpio (newc)
//! ├── manifest.dtb     compatible = "palisade,manifest-1"
//! └── kernels, initrds: regular files that the manifest names
//! ```
//! What is wrong with the archive or with the manifest as a whole is an error
//! of [`Bundle::parse`]; what is wrong with one VM is kept in that VM's
//! [`Entry`], so that the others can run. Nothing is copied; an error takes a box.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod archive;
mod device;
mod error;
mod manifest;
mod vm;

pub use archive::{Archive, File, MAX_FILES};
pub use device::{Device, MAX_DEVICES, Place, Requester};
pub use error::{Error, Problem};
pub use manifest::{Bundle, Entry, MANIFEST, MAX_VMS};
pub use vm::{MAX_READONLY, MAX_VCPUS, RAM_BASE, ReadOnly, Vm};
