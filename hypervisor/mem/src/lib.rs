//! Frames with owners and proofs of release; heap, DMA buffers, table memory, guest memory.
#![no_std]
#![allow(unsafe_code)]
