//! Where a VM stands, as the operator is shown it.

use palisade_vm::Life;

/// Where a VM stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Built, running, or starting again by itself.
    Life(Life),
    /// It has ended, and what it had is being taken from it: neither does it run, nor can it be
    /// started.
    Ending,
    /// Everything was taken from it; how it ended.
    Gone(Life),
}

impl Standing {
    /// Where a VM stands whose life is `life`; `gone`: everything was taken from it.
    pub(crate) const fn new(life: Life, gone: bool) -> Self {
        match (life, gone) {
            (_, true) => Self::Gone(life),
            (Life::Off | Life::Crashed, false) => Self::Ending,
            (Life::Built | Life::Running | Life::Reset, false) => Self::Life(life),
        }
    }

    /// The word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ending => "ending",
            Self::Life(life) | Self::Gone(life) => life.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_running_and_off_a_vm_is_ending() {
        for (life, gone, name) in [
            (Life::Running, false, "started"),
            (Life::Reset, false, "reset"),
            (Life::Off, false, "ending"),
            (Life::Crashed, false, "ending"),
            (Life::Off, true, "off"),
            (Life::Crashed, true, "crashed"),
        ] {
            assert_eq!(Standing::new(life, gone).name(), name);
        }
    }
}
