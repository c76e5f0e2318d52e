//! Copies of whole words from anywhere.

use core::sync::atomic::{AtomicU64, Ordering};

/// Copies `words` 64-bit words. The source may have any alignment; each word of `to` is stored at
/// once, so that whoever looks meanwhile sees the old one or the new one.
///
/// # Safety
/// `to` is a multiple of 8, writable, and known to Rust as atomics only, or not at all; the ranges
/// do not overlap.
pub unsafe fn copy_words(to: *mut u64, from: *const u8, words: usize) {
    for index in 0..words {
        // SAFETY: the caller's promise.
        unsafe {
            let word = from.cast::<u64>().wrapping_add(index).read_unaligned();
            AtomicU64::from_ptr(to.wrapping_add(index)).store(word, Ordering::Relaxed);
        }
    }
}
