//! A scenario with everything it needs to run, and the run itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::console::Screen;
use crate::drive::{control, gremlin, isolation, linux, states, sva};
use crate::machine::Spec;
use crate::outcome::{Check, Outcome};
use crate::record::Records;
use crate::scenario::{Driver, Scenario};
use crate::session::Session;

/// A scenario ready to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// What the file says.
    pub scenario: Scenario,
    /// The board's name in the report.
    pub board: String,
    /// How QEMU is started.
    pub spec: Spec,
    /// The manifest's VM names in order.
    pub vms: Vec<String>,
    /// The disk image of each device of the scenario that has one.
    pub disks: Vec<Option<PathBuf>>,
    /// Moves canaries and patterns.
    pub seed: u64,
}

/// Runs a scenario. Whatever happens, there is an outcome.
#[must_use]
pub fn run(job: &Job, screen: Box<dyn Screen>) -> Outcome {
    let mut checks = Vec::new();
    let allowed = Duration::from_secs(job.scenario.timeout);
    let (error, records) = match Session::start(&job.spec, &job.vms, screen, allowed) {
        Ok(mut session) => {
            let error = drive(job, &mut session, &mut checks).err();
            (error, std::mem::take(&mut session.records))
        }
        Err(error) => (Some(error), Records::default()),
    };
    let error = error.map(|error| format!("{error:#}"));
    let Scenario { name, checks: list, .. } = &job.scenario;
    Outcome::judge(name, &job.board, list, checks, error, records)
}

fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    match job.scenario.driver {
        Driver::Isolation => isolation::drive(job, session, checks),
        Driver::Control => control::drive(job, session, checks),
        Driver::Gremlin => gremlin::drive(job, session, checks),
        Driver::Linux => linux::drive(job, session, checks),
        Driver::States => states::drive(job, session, checks),
        Driver::Sva => sva::drive(job, session, checks),
    }
}
