//! A scenario with everything it needs to run, and the run itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::console::Screen;
use crate::drive::attack::Inconclusive;
use crate::drive::{
    burst, control, exits, gremlin, honest, isolation, linux, linux_iommu, reassign, reboots,
    restart, states, sva, two_linux,
};
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
    /// The file that each network card of the scenario can bring its guest.
    pub files: Vec<Option<PathBuf>>,
    /// Moves canaries and patterns.
    pub seed: u64,
}

/// How often a scenario is played that the host was too slow to judge.
const ATTEMPTS: u32 = 5;

/// Runs a scenario. Whatever happens, there is an outcome.
#[must_use]
pub fn run(job: &Job, screen: Box<dyn Screen>) -> Outcome {
    let mut screen = screen;
    let mut attempt = 1;
    let (checks, error, records) = loop {
        let mut checks = Vec::new();
        let allowed = Duration::from_secs(job.scenario.timeout);
        let mut session = match Session::start(&job.spec, &job.vms, screen, allowed) {
            Ok(session) => session,
            Err(error) => break (checks, Some(error), Records::default()),
        };
        let error = drive(job, &mut session, &mut checks).err();
        let inconclusive = error.as_ref().is_some_and(|error| error.is::<Inconclusive>());
        let (records, back) = session.end();
        if !inconclusive || attempt == ATTEMPTS {
            break (checks, error, records);
        }
        attempt += 1;
        screen = back;
        screen.log("the host was too slow to tell; once more");
    };
    let error = error.map(|error| format!("{error:#}"));
    let Scenario { name, checks: list, .. } = &job.scenario;
    Outcome::judge(name, &job.board, list, checks, error, records)
}

fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    match job.scenario.driver {
        Driver::Isolation => isolation::drive(job, session, checks),
        Driver::Burst => burst::drive(job, session, checks),
        Driver::Control => control::drive(job, session, checks),
        Driver::Exits => exits::drive(job, session, checks),
        Driver::Gremlin => gremlin::drive(job, session, checks),
        Driver::Honest => honest::drive(job, session, checks),
        Driver::HonestControl => honest::control(job, session, checks),
        Driver::Linux => linux::drive(job, session, checks),
        Driver::LinuxIommu => linux_iommu::drive(job, session, checks),
        Driver::Reassign => reassign::drive(job, session, checks),
        Driver::Reboots => reboots::drive(job, session, checks),
        Driver::Restart => restart::drive(job, session, checks),
        Driver::TwoLinux => two_linux::drive(job, session, checks),
        Driver::States => states::drive(job, session, checks),
        Driver::Sva => sva::drive(job, session, checks),
    }
}
