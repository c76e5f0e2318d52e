//! Files of the volume that the loader came from.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use palisade_uefi::{Refusal, check};
use uefi::fs::FileSystem;
use uefi::{CStr16, cstr16};

/// What is loaded.
pub(crate) struct Files {
    pub(crate) hypervisor: Vec<u8>,
    /// Empty where there is none.
    pub(crate) bundle: Vec<u8>,
    pub(crate) command_line: String,
}

/// Reads all of them, and checks them against SHA256SUMS.
///
/// # Errors
/// One is missing, or not the one that was packed.
pub(crate) fn read() -> Result<Files, Refusal> {
    let volume = uefi::boot::get_image_file_system(uefi::boot::image_handle());
    let mut volume = FileSystem::new(
        volume.map_err(|error| failed("the volume", &format!("{:?}", error.status())))?,
    );
    let sums = load(&mut volume, "SHA256SUMS", cstr16!("\\palisade\\SHA256SUMS"))?;
    let sums = String::from_utf8(sums).map_err(|_| failed("SHA256SUMS", "it is no text"))?;
    let mut checked = |name, path| {
        let bytes = load(&mut volume, name, path)?;
        check(&sums, name, &bytes).map(|()| bytes)
    };
    let hypervisor = checked("hypervisor", cstr16!("\\palisade\\hypervisor"))?;
    let bundle = checked("bundle", cstr16!("\\palisade\\bundle"))?;
    let text = checked("cmdline", cstr16!("\\palisade\\cmdline"))?;
    let text = String::from_utf8(text).map_err(|_| Refusal::CommandLine)?;
    if !text.is_ascii() {
        return Err(Refusal::CommandLine);
    }
    Ok(Files { hypervisor, bundle, command_line: text.trim().to_string() })
}

fn failed(name: &'static str, why: &str) -> Refusal {
    Refusal::File { name, why: why.to_string() }
}

fn load(volume: &mut FileSystem, name: &'static str, path: &CStr16) -> Result<Vec<u8>, Refusal> {
    volume.read(path).map_err(|error| failed(name, &error.to_string()))
}
