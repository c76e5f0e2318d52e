//! The formats.

pub(crate) mod lpae;
pub(crate) mod lpae32;
pub(crate) mod lpae_s1;
pub(crate) mod lpae_s2;
pub(crate) mod mali_lpae;
pub(crate) mod v7s;
