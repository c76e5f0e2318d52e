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
    /// Polls `done` until it returns true or a limit is reached; returns whether it was
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

/// A wait under way, turn by turn.
pub(crate) struct Wait {
    deadline: Deadline,
    turns: u32,
}

impl Wait {
    /// Begins it.
    pub fn new(limits: Limits, env: &impl Env) -> Self {
        Self { deadline: Deadline::after(env, limits.micros), turns: limits.turns }
    }

    /// Lets a turn pass; `false` when a limit is reached.
    #[inline]
    pub fn turn(&mut self, env: &impl Env) -> bool {
        let Some(left) = self.turns.checked_sub(1) else { return false };
        self.turns = left;
        if self.deadline.expired(env) {
            return false;
        }
        env.relax();
        true
    }
}
