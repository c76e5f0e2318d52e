//! Faults planted at the seams between driver, CPU and SMMU: each has to be noticed.
//!
//! One row is one protecting line or step: the fake CPU skips what a named place asks for, or a
//! filter drops, delays or alters a command or a register store. A row is caught only if its
//! test passes without the fault and fails with it, by the assertion that the row names.
#![allow(missing_docs)]

mod rows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use rows::Row;

/// How a run without fault ended, by test and seed.
type Clean = Arc<Mutex<HashMap<(&'static str, u64), bool>>>;

const SEEDS: u64 = 24;

fn passes_clean(clean: &Clean, test: &'static str, seed: u64) -> bool {
    let key = (test, seed);
    let known = clean.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
    known.unwrap_or_else(|| {
        let passed = rows::attempt(test, seed, None).is_ok();
        clean.lock().unwrap_or_else(PoisonError::into_inner).insert(key, passed);
        passed
    })
}

fn judge(row: &Row, clean: &Clean) -> Result<(), Failed> {
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        let planted = rows::attempt(row.test, seed, Some(row.fault.clone()));
        let Err(violation) = planted else { continue };
        if !row.assertions.contains(&violation.assertion) {
            others.push(violation.assertion);
            continue;
        }
        if !passes_clean(clean, row.test, seed) {
            return Err(format!("{} fails without the fault, seed {seed}", row.test).into());
        }
        println!("sabotage {}: caught by {}", row.name, row.test);
        return Ok(());
    }
    println!("sabotage {}: survived", row.name);
    Err(format!("expected {:?}, saw {others:?}", row.assertions).into())
}

fn main() {
    let arguments = Arguments::from_args();
    let clean = Clean::default();
    let trials = rows::all().into_iter().map(|row| {
        let clean = clean.clone();
        Trial::test(row.name.clone(), move || judge(&row, &clean))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
