//! From the first instruction at EL2 to the first one of a guest, in instructions: QEMU counts
//! them, one per nanosecond of virtual time.

use anyhow::{Context, Result, bail};
use palisade_e2e::console::{Quiet, say};
use palisade_e2e::drive;
use palisade_e2e::record::number;
use serde_json::json;

use crate::bench::command::Numbers;
use crate::cli::Board;
use crate::image::hypervisor;
use crate::run::{Wish, prepare};
use crate::setup;
use crate::workspace::Workspace;

const NAME: &str = "entry_to_first_guest_instruction";
/// What cortex-a72's counter runs at in QEMU; the report may say otherwise.
const HERTZ: u64 = 62_500_000;

/// Boots once with one VM and prints the number.
pub fn measure(workspace: &Workspace) -> Result<Numbers> {
    setup::target()?;
    let qemu = setup::qemu(None)?;
    let kernel = hypervisor(workspace, Board::QemuVirt)?;
    let wish = Wish {
        seed: 1,
        qemu_arguments: ["-icount", "shift=0"].map(str::to_owned).to_vec(),
        ..Wish::default()
    };
    let (job, _folder) = prepare(workspace, &qemu.path, &kernel, "hello", &wish)?;
    let quiet = Quiet::default();
    let outcome = drive::run(&job, Box::new(quiet.clone()));
    if !outcome.passed() {
        let why = outcome.error.as_deref().unwrap_or("a check failed");
        bail!("the run failed: {why}\n{}", quiet.transcript());
    }
    let timing = outcome.records.of("timing").next_back().context("no timing record")?;
    let ticks = number(timing, NAME).context("the timing record has no such number")?;
    let hertz = number(timing, "frequency").unwrap_or(HERTZ).max(1);
    let instructions = u128::from(ticks) * 1_000_000_000 / u128::from(hertz);
    let instructions = u64::try_from(instructions)?;
    say(&format!("{NAME}: {instructions} instructions ({ticks} ticks)"));
    let value = json!({
        "ours": instructions,
        "unit": "instructions",
        "goal": null,
        "peers": {},
        "why": "no peer publishes it",
    });
    Ok(Numbers::from_iter([(NAME.to_owned(), value)]))
}
