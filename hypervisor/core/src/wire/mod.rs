//! The one UART: console, channels, log and report.

pub(crate) mod console;
pub(crate) mod logger;
pub mod mux;
pub(crate) mod report;
pub(crate) mod serial;
