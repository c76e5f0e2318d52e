//! Palisade for the Raspberry Pi 4.
fn main() {}
