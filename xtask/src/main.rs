//! Builds, runs, tests and measures Palisade.
fn main() {}
