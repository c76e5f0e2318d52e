//! Address Translation Services (10.5.1): whether a function may hold translations itself.

use crate::ecam::Config;
use crate::regs::{ats, extended};

/// Whether the function has the capability.
pub fn translates(config: Config<'_>) -> bool {
    config.extended_capability(extended::ATS).is_some()
}

/// Lets the function ask for translations of 4 KiB and more, or not. What it holds is the
/// caller's to invalidate. Nothing happens to one without the capability.
pub fn set_ats(config: Config<'_>, on: bool) {
    if let Some(at) = config.extended_capability(extended::ATS) {
        // Smallest Translation Unit 0 is 4,096 bytes.
        config.write16(at.saturating_add(ats::CONTROL), if on { ats::CONTROL_ENABLE } else { 0 });
    }
}
