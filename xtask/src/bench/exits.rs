//! What each of a guest's exits costs, in instructions. QEMU counts them: one takes a nanosecond of
//! the machine's time, and the guest's counter runs at a gigahertz.

use anyhow::{Context, Result, bail};
use palisade_e2e::console::{Quiet, say};
use palisade_e2e::drive::{self, exits};
use serde_json::{Value, json};

use crate::bench::command::Numbers;
use crate::cli::Board;
use crate::image::hypervisor;
use crate::run::{Wish, prepare};
use crate::setup;
use crate::workspace::Workspace;

/// How the payload is told how often it shall exit for each row.
const ROUNDS: &str = "rounds=10000";

/// An exit's name, and the goal: most instructions on average.
const GOALS: &[(&str, u64)] = &[
    ("hvc_psci_version", 190),
    ("id_register_read", 200),
    ("gicd_typer_read", 225),
    ("gicd_isenabler_write", 350),
    ("pl011_flag_read", 300),
    ("sgi_to_self", 700),
    ("timer_to_handler", 500),
    ("ipi_to_handler", 1000),
    ("end_of_interrupt", 2),
];

/// Runs the scenario with more rounds than the tests have, and prints the table.
pub fn measure(workspace: &Workspace) -> Result<Numbers> {
    setup::target()?;
    let qemu = setup::qemu(None)?;
    let kernel = hypervisor(workspace, Board::QemuVirt)?;
    let wish = Wish {
        seed: 1,
        change: Some(|_, vms| vms.iter_mut().for_each(|vm| vm.bootargs = ROUNDS.to_owned())),
        ..Wish::default()
    };
    let (job, _folder) = prepare(workspace, &qemu.path, &kernel, "exits", &wish)?;
    let quiet = Quiet::default();
    let outcome = drive::run(&job, Box::new(quiet.clone()));
    // What was recorded is the tests' to judge.
    let check = outcome.checks.iter().find(|check| check.name == exits::CHECK);
    let counted = check.and_then(|check| check.evidence.get(exits::COUNTED));
    let (Some(counted), None) = (counted, &outcome.error) else {
        let why = outcome.error.as_deref().unwrap_or("no counts");
        bail!("the run failed: {why}\n{}", quiet.transcript());
    };
    table(counted)
}

fn table(counted: &Value) -> Result<Numbers> {
    say(&format!(
        "{:22} {:>9} {:>9} {:>9} {:>7} {:>6}",
        "instructions an exit", "least", "average", "most", "goal", "ratio"
    ));
    let mut numbers = Numbers::new();
    for &(name, goal) in GOALS {
        let cost = counted.get(name).and_then(exits::Cost::read);
        let cost = cost.with_context(|| format!("{name}: not counted"))?;
        let exits::Cost { least, average, most } = cost;
        let ratio = average as f64 / goal as f64;
        let missed = if average > goal { "  above the goal" } else { "" };
        say(&format!("{name:22} {least:>9} {average:>9} {most:>9} {goal:>7} {ratio:>6.2}{missed}"));
        let value = json!({
            "ours": average,
            "least": least,
            "most": most,
            "unit": "instructions",
            "goal": goal,
            "peers": {},
            "why": "cortex-a72, GICv3, -icount shift=0; reading the counter is taken off",
        });
        numbers.insert(format!("exit_{name}"), value);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lacks_no_row() {
        let cost = json!({ "least": 1, "average": 2, "most": 3 });
        let all: serde_json::Map<String, Value> =
            GOALS.iter().map(|(name, _)| ((*name).to_owned(), cost.clone())).collect();
        let mut counted = Value::Object(all);
        assert_eq!(table(&counted).unwrap()["exit_sgi_to_self"]["ours"], 2);
        counted.as_object_mut().unwrap().remove("sgi_to_self");
        assert!(table(&counted).is_err());
    }
}
