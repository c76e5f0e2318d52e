//! Hands the payloads' linker script to the linker. They are linked at 0 and run anywhere.

use std::path::Path;

fn main() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../linker/payload.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    println!("cargo:rerun-if-changed=src/start.s");
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
    for word in ["-pie", "--no-dynamic-linker", "-zmax-page-size=4096", "-znorelro", "-znotext"] {
        println!("cargo:rustc-link-arg-bins={word}");
    }
}
