//! The log facade's implementation: time, core, module, text.

use core::sync::atomic::{AtomicU64, Ordering};

use log::{LevelFilter, Log, Metadata, Record};
use palisade_hal::Env;
use palisade_hal::cpu::{self, Counter};

use crate::wire::console;

struct Logger;

static LOGGER: Logger = Logger;
static START: AtomicU64 = AtomicU64::new(0);

/// Starts logging. `start` is the count that becomes second 0; `level` is the
/// value of `palisade.log`, info when absent or no level.
pub(crate) fn init(start: u64, level: Option<&str>) {
    START.store(start, Ordering::Relaxed);
    let level = level.and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::Info);
    // An error would mean that there is a logger already.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}

impl Log for Logger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let frequency = Counter.frequency();
        let ticks = Counter.now().wrapping_sub(START.load(Ordering::Relaxed));
        let micros = (ticks % frequency).saturating_mul(1_000_000) / frequency;
        let module = record.module_path().unwrap_or("");
        console::log(format_args!(
            "{:4}.{micros:06} {} {:5} {}: {}\n",
            ticks / frequency,
            cpu::index(),
            record.level(),
            module.strip_prefix("palisade_").unwrap_or(module),
            record.args(),
        ));
    }

    fn flush(&self) {}
}
