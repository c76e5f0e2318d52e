//! The driver on a minimal SMMU that records what it is told.

mod bring_up;
mod fake;
