//! Both witnesses about the same cases.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};

use crate::cases::Group;
use crate::known::explain;
use crate::place;
use crate::play::{Trace, play};
use crate::scene::Scene;
use crate::smmu::Settings;
use crate::witness::{Way, Witness};

/// One access about which they disagree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// What the model saw.
    pub model: Trace,
    /// What QEMU's SMMU did.
    pub qemu: Trace,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trace { name, nth, address, way, seen } = &self.model;
        let way = if *way == Way::Read { "reads" } else { "writes" };
        writeln!(f, "{name}, access {nth} {way} {address:#x}")?;
        writeln!(f, "    model: {seen}")?;
        write!(f, "    QEMU:  {}", self.qemu.seen)
    }
}

/// What came of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Cases played.
    pub cases: usize,
    /// Accesses of them.
    pub accesses: usize,
    /// Accesses that arrived, on both.
    pub reached: usize,
    /// Event records that both wrote, alike.
    pub events: usize,
    /// Accesses that known errors of QEMU explain.
    pub explained: usize,
    /// How often each known error of QEMU was met.
    pub known: BTreeMap<&'static str, usize>,
    /// What is not explained.
    pub disagreements: Vec<Disagreement>,
}

impl Report {
    /// Adds another's numbers.
    pub fn add(&mut self, other: Report) {
        self.cases += other.cases;
        self.accesses += other.accesses;
        self.reached += other.reached;
        self.events += other.events;
        self.explained += other.explained;
        for (name, count) in other.known {
            *self.known.entry(name).or_default() += count;
        }
        self.disagreements.extend(other.disagreements);
    }

    fn judge(&mut self, scenes: &[Scene], model: Vec<Trace>, qemu: Vec<Trace>) -> Result<()> {
        ensure!(model.len() == qemu.len(), "one witness has left accesses out");
        self.cases += scenes.len();
        self.accesses += model.len();
        for (model, qemu) in model.into_iter().zip(qemu) {
            if model.seen == qemu.seen {
                self.reached += usize::from(model.seen.reached.is_some());
                self.events += model.seen.events.len();
                continue;
            }
            let scene = scenes.iter().find(|scene| scene.name == model.name);
            let found = Disagreement { model, qemu };
            let names = scene.map(|scene| explain(scene, &found)).unwrap_or_default();
            if names.is_empty() {
                self.disagreements.push(found);
            } else {
                self.explained += 1;
            }
            for name in names {
                *self.known.entry(name).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// Plays groups of cases on both, and compares. `progress` gets the cases done so far.
///
/// # Errors
/// A witness breaks down; the message says what was being played.
pub fn compare(
    model: &mut dyn Witness,
    qemu: &mut dyn Witness,
    groups: &[Group],
    progress: &mut dyn FnMut(usize),
) -> Result<Report> {
    let mut report = Report::default();
    for group in groups {
        let slots: Vec<usize> = (group.first_slot..place::SLOTS).step_by(group.stride).collect();
        for plans in group.plans.chunks(slots.len().max(1)) {
            let mut scenes: Vec<Scene> =
                plans.iter().zip(&slots).map(|(plan, slot)| plan.scene(*slot)).collect();
            if !qemu.reads() {
                scenes.iter_mut().for_each(Scene::drop_reads);
            }
            report.add(both(model, qemu, &scenes, &scenes, group.settings)?);
            progress(report.cases);
        }
    }
    Ok(report)
}

/// Plays `scenes` on the model and `theirs` on QEMU: the same, unless a difference is planted.
pub(crate) fn both(
    model: &mut dyn Witness,
    qemu: &mut dyn Witness,
    scenes: &[Scene],
    theirs: &[Scene],
    settings: Settings,
) -> Result<Report> {
    let mut report = Report::default();
    let ours = play(model, scenes, settings)?;
    let theirs = play(qemu, theirs, settings)?;
    report.judge(scenes, ours, theirs)?;
    Ok(report)
}
