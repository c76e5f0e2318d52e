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
mod limits;
mod manifest;
mod vm;

pub use archive::{Archive, File, MAX_FILES};
pub use device::{Device, Place, Requester};
pub use error::{Error, Problem};
pub use limits::{
    MAX_CORES, MAX_DEVICES, MAX_MEMORY, MAX_NAME, MAX_READONLY, MAX_VCPUS, MAX_VMS, MIN_MEMORY,
    PAGE, RAM_BASE,
};
pub use manifest::{Bundle, Entry, MANIFEST};
pub use vm::{ReadOnly, Vm};
