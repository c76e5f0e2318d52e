//! Differences planted on purpose: one witness gets a bit that the other does not. A comparison
//! that overlooks one of them proves nothing.

use anyhow::Result;

use crate::compare::both;
use crate::scene::{Plan, Scene};
use crate::smmu::Settings;
use crate::witness::Witness;

/// What is changed on QEMU's side.
type Change = fn(&mut Scene);

/// A bit of the word that lies last in the image: the leaf of a case's only mapping.
fn leaf(scene: &mut Scene, bit: u64) {
    let is_leaf = |word: &u64| word & 0x403 == 0x403 && word & 0xffff_f000 != 0;
    let place = scene.image.iter().filter(|(_, word)| is_leaf(word)).map(|(pa, _)| *pa).next_back();
    if let Some(place) = place {
        let word = scene.word(place) ^ 1 << bit;
        scene.put(place, word);
    }
}

/// Each with the case that it is planted in.
const PLANTED: &[(&str, &str, Change)] = &[
    ("output of a stage 2 leaf", "stage-2 4K leaf plain", |scene| leaf(scene, 14)),
    ("S2AP of a stage 2 leaf", "stage-2 4K leaf plain", |scene| leaf(scene, 7)),
    ("AF of a stage 2 leaf", "stage-2 64K leaf plain", |scene| leaf(scene, 10)),
    ("output of a stage 1 leaf", "stage-1 16K leaf plain", |scene| leaf(scene, 15)),
    ("AP of a stage 1 leaf", "stage-1 4K leaf plain", |scene| leaf(scene, 7)),
    ("STE.V", "stage-2 16K leaf plain", |scene| scene.ste[0] ^= 1),
    ("STE.Config", "stage-2 4K leaf plain", |scene| scene.ste[0] ^= 2 << 1),
    ("STE.S2T0SZ", "stage-2 4K leaf without AF", |scene| scene.ste[2] ^= 16 << 32),
    ("STE.S2R", "stage-2 4K leaf without AF", |scene| scene.ste[2] ^= 1 << 58),
    ("CD.V", "stage-1 4K leaf plain", |scene| {
        let place = scene.context();
        let word = scene.word(place) ^ 1 << 31;
        scene.put(place, word);
    }),
];

/// Plays each planted difference; gives the names of those that nobody noticed, and how many
/// there are.
///
/// # Errors
/// A witness breaks down.
pub fn overlooked(
    model: &mut dyn Witness,
    qemu: &mut dyn Witness,
    plans: &[Plan],
) -> Result<(Vec<&'static str>, usize)> {
    let mut overlooked = Vec::new();
    for (what, name, change) in PLANTED {
        let plan = plans.iter().find(|plan| plan.name == *name);
        let found = plan.map(|plan| -> Result<bool> {
            let mut ours = [plan.scene(0)];
            if !qemu.reads() {
                ours.iter_mut().for_each(Scene::drop_reads);
            }
            let mut theirs = ours.clone();
            theirs.iter_mut().for_each(change);
            let report = both(model, qemu, &ours, &theirs, Settings::default())?;
            Ok(!report.disagreements.is_empty())
        });
        if !found.transpose()?.unwrap_or(false) {
            overlooked.push(*what);
        }
    }
    Ok((overlooked, PLANTED.len()))
}
