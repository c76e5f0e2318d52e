//! The formats over the machine's own frames, compiled here: generic code would
//! be compiled where it is used, at that crate's optimisation level.

use alloc::boxed::Box;

use palisade_mem::FrameTables;

use crate::build;
use crate::config::Config;
use crate::error::ConfigError;
use crate::registry::FormatFns;
use crate::table::PageTable;

/// Stage 2 with the 4 KiB granule: what the shipped image registers.
pub static STAGE2_4K: [FormatFns<FrameTables>; 1] = FormatFns::stage2_4k();
/// The long-descriptor family.
pub static LPAE: [FormatFns<FrameTables>; 5] = FormatFns::lpae();
/// The short-descriptor family.
pub static V7S: [FormatFns<FrameTables>; 1] = FormatFns::v7s();

/// A stage-2 table with the 4 KiB granule, without a registry.
///
/// # Errors
/// Another format or granule, what stage 2 refuses, or no memory for the root.
pub fn alloc_in_frames(
    config: &Config,
    memory: FrameTables,
) -> Result<Box<dyn PageTable>, ConfigError> {
    if config.format != crate::config::FormatId::Arm64LpaeS2 {
        return Err(ConfigError::Unregistered(config.format));
    }
    build::lpae64_s2_4k(config, memory, None)
}
