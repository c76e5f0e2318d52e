//! The driver on a minimal SMMU that records what it is told.

mod attach;
mod bring_up;
mod budget;
mod coherency;
mod contexts;
mod device_tlb;
mod errata;
mod events;
mod fake;
mod nested;
mod order;
mod queue;
mod rollback;
mod sizes;
