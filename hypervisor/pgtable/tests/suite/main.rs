//! Page tables, room by room, over memory whose physical addresses are not its own.

mod battery;
mod coherence;
mod collapse;
mod common;
mod dirty;
mod encodings;
mod faults;
mod gather;
mod mapping;
mod numbers;
mod registry;
mod selftest;
mod shadow_tlb;
mod shapes;
mod splitting;
mod unmapping;
mod walk_cache;
mod words;
