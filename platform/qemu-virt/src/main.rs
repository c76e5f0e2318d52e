//! Palisade for QEMU's virt machine.
fn main() {}
