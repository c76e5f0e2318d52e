//! The driver on a minimal SMMU that records what it is told.

mod attach;
mod bring_up;
mod budget;
mod coherency;
mod contexts;
mod events;
mod fake;
mod nested;
mod queue;
mod rollback;
