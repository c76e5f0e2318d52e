//! Host tests that join several crates: driver against model, sabotage, invariants.
#![forbid(unsafe_code)]
