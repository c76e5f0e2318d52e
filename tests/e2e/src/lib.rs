//! Runs QEMU, takes its one UART apart, asks its monitor, and judges scenarios.
#![forbid(unsafe_code)]
