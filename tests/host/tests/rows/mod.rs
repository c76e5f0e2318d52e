//! The rows of the matrix.

mod commands;
mod sites;
mod stores;

use palisade_host::{Injections, Sabotage, Setup, Sharing, Violation, run, share};
use palisade_smmu_model::Features;

/// One planted fault, and who has to notice it.
pub struct Row {
    pub name: String,
    pub fault: Sabotage,
    /// The test: a variant of the random run.
    pub test: &'static str,
    /// The assertions that may fail for it.
    pub assertions: &'static [&'static str],
}

/// Every row.
pub fn all() -> Vec<Row> {
    let mut rows = commands::rows();
    rows.extend(stores::rows());
    rows.extend(sites::rows());
    rows
}

const STEPS: u64 = 120;

/// Runs `test` with `seed` and, if there is one, a fault.
pub fn attempt(test: &str, seed: u64, sabotage: Option<Sabotage>) -> Result<(), Violation> {
    if test != "sharing" {
        return run(&Setup { sabotage, ..setup(test, seed) }, STEPS).map(|_| ());
    }
    let sharing = Sharing { sabotage, ..Sharing::from_seed(seed) };
    share(&sharing, STEPS).map(|_| ()).map_err(|detail| {
        // These runs answer in words.
        let said = |words: &str| detail.contains(words);
        let assertion = match () {
            () if said(" reached ") => "reach",
            () if said(" was refused: ") => "lost",
            () if said("do not explain") => "event",
            () => "sharing",
        };
        Violation { assertion, detail }
    })
}

/// The random run that `test` names.
pub fn setup(test: &str, seed: u64) -> Setup {
    let base = Features {
        hyp: false,
        msi: false,
        ats: false,
        split_ats: false,
        pri: false,
        sid_bits: 7,
        two_level_streams: false,
        cmdq_log2: 5,
        evtq_log2: 5,
        ..Features::default()
    };
    let plain = Setup {
        features: base.clone(),
        injections: Injections::None,
        messages: false,
        firmware: false,
        splits: false,
        instants: false,
        contiguous: seed % 2 == 1,
        ..Setup::from_seed(seed)
    };
    let with = |features| Setup { features, ..plain.clone() };
    match test {
        "isolation" => plain,
        "take-over" => Setup { firmware: true, ..with(Features { gbpa_abort: false, ..base }) },
        "isolation-open-reset" => with(Features { gbpa_abort: false, ..base }),
        "isolation-no-ranges" => with(Features { ril: false, ..base }),
        "isolation-non-coherent" => with(Features { coherent: false, ..base }),
        "splits-in-place" => Setup { splits: true, ..with(Features { bbml: 2, ..base }) },
        "instants" => Setup { instants: true, ..plain },
        "splits" => Setup { splits: true, ..plain },
        "isolation-two-level" => with(Features { two_level_streams: true, sid_bits: 16, ..base }),
        "isolation-ats" => with(Features { ats: true, ..base }),
        "isolation-messages" => Setup { messages: true, ..with(Features { msi: true, ..base }) },
        "recovery" => Setup { injections: Injections::Survivable, ..plain },
        other => unreachable!("no test is called {other}"),
    }
}
