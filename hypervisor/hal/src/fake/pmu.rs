//! Counting instructions: this CPU does not.

/// Runs `body` and answers how many instructions that took, where they are counted.
pub fn retired<R>(body: impl FnOnce() -> R) -> (R, Option<u32>) {
    (body(), None)
}

/// Runs `body`, inside [`retired`]'s, without counting it.
pub fn uncounted<R>(body: impl FnOnce() -> R) -> R {
    body()
}
