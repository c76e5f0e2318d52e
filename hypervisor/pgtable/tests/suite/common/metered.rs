//! Table memory that counts what is asked of it, and runs out on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use palisade_hal::PhysAddr;
use palisade_mem::{Detached, FrameTables, Table, TableMemory, Words};

use super::Machine;

/// Frames' tables, metered.
#[derive(Clone)]
pub struct Metered {
    memory: FrameTables,
    left: Arc<AtomicUsize>,
    looked_up: Arc<AtomicUsize>,
}

impl Metered {
    /// Memory for `left` allocations.
    pub fn new(machine: &Machine, left: usize) -> Self {
        let looked_up = Arc::default();
        Self { memory: machine.memory.clone(), left: Arc::new(left.into()), looked_up }
    }

    /// From now on, memory for `left` allocations.
    pub fn leave(&self, left: usize) {
        self.left.store(left, Ordering::Relaxed);
    }

    /// How many allocations are left.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// How many tables were looked up by their address since the last call.
    pub fn looked_up(&self) -> usize {
        self.looked_up.swap(0, Ordering::Relaxed)
    }
}

impl TableMemory for Metered {
    fn alloc<W: Words>(&self, count: usize) -> Option<PhysAddr> {
        self.leave(self.left().checked_sub(1)?);
        self.memory.alloc::<W>(count)
    }
    fn discard(&self, block: PhysAddr) {
        self.memory.discard(block);
    }
    fn table<W: Words>(&self, at: PhysAddr) -> Option<Table<'_, W>> {
        self.looked_up.fetch_add(1, Ordering::Relaxed);
        self.memory.table::<W>(at)
    }
    fn retire(&self, block: PhysAddr, into: &mut Option<Detached>) {
        self.memory.retire(block, into);
    }
}
