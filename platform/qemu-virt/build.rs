//! Hands the board's linker script to the linker.

use std::path::Path;

fn main() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../linker");
    println!("cargo:rerun-if-changed={}", scripts.display());
    println!("cargo:rustc-link-arg-bins=-L{}", scripts.display());
    println!("cargo:rustc-link-arg-bins=-Tqemu-virt.ld");
    // Functions that came out equal are kept once; nothing compares functions by address.
    println!("cargo:rustc-link-arg-bins=--icf=all");
}
