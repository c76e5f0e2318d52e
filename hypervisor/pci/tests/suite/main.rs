//! PCI on a fake hierarchy: enumeration, groups, resets.

mod common;
mod enumerate;
mod groups;
mod kept;
mod placed;
mod resets;
