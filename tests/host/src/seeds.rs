//! Many seeds at once: one thread per core, a line of progress now and then, and every failure by
//! its seed.

use std::io::Write;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of progress.
const TELL: Duration = Duration::from_secs(10);
/// Failures that are collected before the rest is left out.
const ENOUGH: usize = 4;

/// Whether the long runs are asked for: `PALISADE_LONG=1`.
pub fn long() -> bool {
    std::env::var("PALISADE_LONG").is_ok_and(|value| value == "1")
}

/// The seeds to play: those of `range`, or the one that `PALISADE_SEED` names.
pub fn chosen(range: Range<u64>) -> Vec<u64> {
    let chosen = std::env::var("PALISADE_SEED").ok().and_then(|value| value.parse().ok());
    chosen.map_or_else(|| range.collect(), |seed| vec![seed])
}

/// Plays every seed, `steps` steps each, and gives what came of them, in no order.
///
/// # Panics
/// When a seed failed: with every failure there was, and the words that replay it.
pub fn play_all<T: Send>(
    name: &str,
    seeds: &[u64],
    steps: u64,
    play: impl Fn(u64) -> Result<T, String> + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::<String>::new());
    let results = Mutex::new(Vec::with_capacity(seeds.len()));
    let told = Mutex::new(Instant::now());
    let work = || {
        while lock(&failures).len() < ENOUGH
            && let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed))
        {
            match play(seed) {
                Ok(result) => lock(&results).push(result),
                Err(wrong) => {
                    lock(&failures).push(format!("{wrong}\nPALISADE_SEED={seed} replays it"));
                }
            }
            let mut told = lock(&told);
            if told.elapsed() > TELL {
                *told = Instant::now();
                let done = lock(&results).len() as u64;
                let line = format!(
                    "{name}: {done} of {} seeds, {} of {} steps\n",
                    seeds.len(),
                    done * steps,
                    seeds.len() as u64 * steps
                );
                // Not the macro: the test's own output is shown only when it fails.
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores.min(seeds.len()) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
