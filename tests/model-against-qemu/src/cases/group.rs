//! Cases that share the SMMU's settings, and all of them together.

use crate::cases::{config, invalidate, nested, stage1, stage2};
use crate::scene::Plan;
use crate::smmu::Settings;

/// Cases under the same settings of the SMMU.
pub struct Group {
    /// What stands in the registers.
    pub settings: Settings,
    /// The first slot that may be used.
    pub first_slot: usize,
    /// Then every how manieth.
    pub stride: usize,
    /// The cases.
    pub plans: Vec<Plan>,
}

impl Group {
    /// Under the usual settings.
    pub(crate) fn usual(plans: Vec<Plan>) -> Self {
        Self { settings: Settings::default(), first_slot: 0, stride: 1, plans }
    }
}

/// Every case that is written down.
#[must_use]
pub fn written() -> Vec<Group> {
    let mut groups = vec![Group::usual(
        [stage1::plans(), stage2::plans(), nested::plans(), config::plans(), invalidate::plans()]
            .into_iter()
            .flatten()
            .collect(),
    )];
    groups.extend(config::groups());
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::written;
    use crate::cases::random;
    use crate::place;
    use crate::scene::Step;

    #[test]
    fn every_case_is_one_of_its_kind_and_fits_every_slot() {
        let mut names = BTreeSet::new();
        for group in written() {
            for plan in group.plans {
                for slot in [0, place::SLOTS - 1] {
                    let scene = plan.scene(slot);
                    let slice = place::slice(slot);
                    let ours = |pa: &u64| {
                        (slice..slice + place::SLICE).contains(pa)
                            || (place::STREAMS_FIRST..place::COMMANDS).contains(pa)
                    };
                    assert!(scene.image.keys().all(ours), "{}", plan.name);
                    let accesses = |step: &Step| matches!(step, Step::Access { .. });
                    assert!(scene.steps.iter().any(accesses), "{} accesses nothing", plan.name);
                }
                assert!(names.insert(plan.name.clone()), "{} is there twice", plan.name);
            }
        }
    }

    #[test]
    fn a_seed_says_it_all() {
        let words = || -> Vec<_> {
            let scene = |plan: &crate::Plan| plan.scene(3);
            random::plans(5, 20).iter().map(scene).map(|scene| (scene.ste, scene.image)).collect()
        };
        assert_eq!(words(), words());
        assert_ne!(words()[0], words()[1]);
    }
}
