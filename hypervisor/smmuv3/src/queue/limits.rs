//! How long a wait may take.

use palisade_hal::{Deadline, Env};

/// The limits of one wait; whichever comes first.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Of the clock, in microseconds.
    pub micros: u64,
    /// Of the loop: what holds whatever the clock does.
    pub turns: u32,
}

impl Limits {
    /// Polls `done` until it answers true or a limit is reached; the answer is whether it was
    /// done. It is asked once more after the last turn, so that a core that was held up does not
    /// report a failure that never was.
    pub fn wait(&self, env: &impl Env, mut done: impl FnMut() -> bool) -> bool {
        let deadline = Deadline::after(env, self.micros);
        for _ in 0..self.turns {
            if done() {
                return true;
            }
            if deadline.expired(env) {
                break;
            }
            env.relax();
        }
        done()
    }
}
