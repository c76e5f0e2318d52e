//! The device trees of Debian's kernels, as a step of the long mode.

use anyhow::Result;
use palisade_e2e::console::say;

use crate::boards;
use crate::test::tally::Tally;

const NAME: &str = "boards";
/// Fewer trees than this and something was not fetched.
const TREES: usize = 3_100;
/// The only reason to refuse a board: there is no interrupt controller that could be virtualised.
const REFUSED: &str = "device tree: no GICv2 or GICv3";

/// Reads every tree; every board with a GICv2 or GICv3 must be read.
pub fn run(only: &str) -> Result<Tally> {
    if !NAME.contains(only) {
        return Ok(Tally::default());
    }
    let counts = boards::count(None)?;
    let refused = counts.refused.keys().all(|kind| kind == REFUSED);
    let passed = counts.read >= TREES && refused;
    say(&format!("{counts}"));
    say(&format!("test long::{NAME} ... {}", if passed { "ok" } else { "FAILED" }));
    Ok(Tally::one(passed))
}
