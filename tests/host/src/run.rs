//! Whole runs: a world and a number of steps.

use crate::setup::Setup;
use crate::traffic::Violation;
use crate::world::World;

/// What a run saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Actions done.
    pub steps: u64,
    /// Transactions tried.
    pub tried: u64,
    /// Transactions that reached memory.
    pub reached: u64,
}

/// Builds the world of `setup` and does `steps` random actions, fewer if an injected fault ends
/// it.
///
/// # Errors
/// The first violation.
pub fn run(setup: &Setup, steps: u64) -> Result<Tally, Violation> {
    let mut world = World::new(setup)?;
    let mut tally = Tally::default();
    while tally.steps < steps && !world.is_over() {
        world.step()?;
        tally.steps += 1;
    }
    world.finish()?;
    (tally.tried, tally.reached) = world.machine().tried();
    Ok(tally)
}
