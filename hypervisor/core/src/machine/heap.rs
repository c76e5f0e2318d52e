//! The hypervisor's own heap: a fixed piece of its image.

#[cfg(target_os = "none")]
mod target {
    use core::mem::MaybeUninit;

    use palisade_mem::Heap;

    /// All that the hypervisor's own data structures may ever take, in bytes.
    /// Tables, queues and guests' RAM come from frames instead.
    ///
    /// What guests make it take is bounded by their quotas: 1,024 LPIs, 1,024 bindings, 2,048
    /// entries of context tables, 128 address spaces and 256 stalls each, less than 450 KiB.
    /// Eight VMs thus stay below half of it, which leaves room for blocks of powers of two and for
    /// vectors that grow.
    const BYTES: usize = 8 << 20;

    #[repr(C, align(4096))]
    struct Memory([MaybeUninit<u8>; BYTES]);

    #[global_allocator]
    static HEAP: Heap = Heap::empty();

    #[unsafe(link_section = ".heap")]
    static mut MEMORY: Memory = Memory([MaybeUninit::uninit(); BYTES]);

    pub(crate) fn init() {
        let start = (&raw mut MEMORY) as usize;
        // SAFETY: MEMORY is named nowhere else, and the first core calls this once.
        unsafe { HEAP.init(start, BYTES) };
    }

    pub(crate) fn usage() -> (usize, usize) {
        HEAP.usage()
    }
}

#[cfg(not(target_os = "none"))]
mod target {
    /// A host has its own heap.
    pub(crate) fn init() {}

    /// A host's heap is not counted.
    pub(crate) fn usage() -> (usize, usize) {
        (0, 0)
    }
}

pub(crate) use target::{init, usage};
