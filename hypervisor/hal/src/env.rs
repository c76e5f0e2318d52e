//! Time and waiting, as a seam: a wait in this project always has a [`Deadline`].

/// What a loop that waits needs from the machine.
pub trait Env {
    /// Called once per turn of a polling loop.
    fn relax(&self);
    /// Counter ticks since an arbitrary start; never goes back.
    fn now(&self) -> u64;
    /// Counter ticks per second; never 0.
    fn frequency(&self) -> u64;
}

impl<E: Env + ?Sized> Env for &E {
    fn relax(&self) {
        (**self).relax();
    }
    fn now(&self) -> u64 {
        (**self).now()
    }
    fn frequency(&self) -> u64 {
        (**self).frequency()
    }
}

/// A point in time after which a wait has failed.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(u64);

impl Deadline {
    /// The deadline `micros` microseconds from now.
    pub fn after(env: &impl Env, micros: u64) -> Self {
        // Whole seconds and the rest apart, so that no product overflows for
        // any frequency a counter has.
        let frequency = env.frequency();
        let whole = (micros / 1_000_000).saturating_mul(frequency);
        let rest = (micros % 1_000_000).saturating_mul(frequency) / 1_000_000;
        Self(env.now().saturating_add(whole).saturating_add(rest))
    }

    /// Whether the deadline has passed.
    pub fn expired(&self, env: &impl Env) -> bool {
        env.now() > self.0
    }

    /// Polls `done` until it answers true or the deadline passes; the answer is
    /// whether it was done. `done` is asked once more after the deadline, so that
    /// a core that was held up does not report a failure that never was.
    pub fn wait(self, env: &impl Env, mut done: impl FnMut() -> bool) -> bool {
        loop {
            if done() {
                return true;
            }
            if self.expired(env) {
                return done();
            }
            env.relax();
        }
    }
}
