//! The 32-bit long-descriptor formats (DDI 0487, G5.5): as the 64-bit ones, with
//! the 4 KiB granule only and shorter addresses.

use crate::config::Config;
use crate::error::ConfigError;
use crate::geometry::at_most;

/// Stage 1: at most 32 bits in, 40 out.
pub(crate) fn check_s1(config: &Config) -> Result<(), ConfigError> {
    at_most(config, 32, 40)?;
    granule(config)
}

/// Stage 2: at most 40 bits in and out.
pub(crate) fn check_s2(config: &Config) -> Result<(), ConfigError> {
    at_most(config, 40, 40)?;
    granule(config)
}

fn granule(config: &Config) -> Result<(), ConfigError> {
    if config.pgsize_bitmap & 1 << 12 == 0 {
        return Err(ConfigError::PageSizes(config.format, config.pgsize_bitmap));
    }
    if config.contiguous || config.s2_dirty {
        return Err(ConfigError::Option(config.format));
    }
    Ok(())
}
