//! Resets: function level (6.6.2), power management (5.3.1), secondary bus (6.6.1).

use palisade_hal::{Deadline, Env};

use crate::ecam::Config;
use crate::function::{Function, Header};
use crate::idle::{self, IdleProof};
use crate::regs::{advanced, bridge, express, header, power};
use crate::topology::Topology;
use crate::{Address, Error};

/// Wait after a reset before a function is spoken to, in milliseconds (6.6.1, 6.6.2).
pub const RESET_WAIT_MS: u64 = 100;
/// Longest wait for it to answer after that, in milliseconds (6.6.1).
pub const READY_MS: u64 = 1000;
/// Wait after a change between D0 and D3hot, in milliseconds (5.9).
const POWER_WAIT_MS: u64 = 10;
/// How long a secondary bus is held in reset, in milliseconds; at least 1 (7.5.1.3.13).
const HOLD_MS: u64 = 2;

/// How a function is reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetMethod {
    /// Function-level reset, PCI Express capability.
    FunctionLevel,
    /// Function-level reset, Advanced Features capability.
    AdvancedFeatures,
    /// To D3hot and back.
    Power,
    /// The bus behind the bridge of this index, on which it is alone.
    SecondaryBus {
        /// Index of the bridge in the topology.
        bridge: usize,
    },
}

impl ResetMethod {
    /// The word that reports and logs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FunctionLevel => "FLR",
            Self::AdvancedFeatures => "AF FLR",
            Self::Power => "power management",
            Self::SecondaryBus { .. } => "secondary bus",
        }
    }
}

/// Lets `milliseconds` pass.
pub(crate) fn pause(env: &impl Env, milliseconds: u64) {
    Deadline::after(env, milliseconds.saturating_mul(1000)).wait(env, || false);
}

/// Waits until the function responds.
fn answers(function: &Function, config: Config<'_>, env: &impl Env) -> Result<(), Error> {
    let deadline = Deadline::after(env, READY_MS.saturating_mul(1000));
    match deadline.wait(env, || config.present()) {
        true => Ok(()),
        false => Err(Error::NotReady(function.address)),
    }
}

impl Topology {
    /// The best reset that the function offers: function level, else power
    /// management, else the bus behind its own port. `together` tells whether a
    /// function may be reset along with this one (its own group).
    ///
    /// # Errors
    /// [`Error::NoReset`], [`Error::ResetsOther`], [`Error::ResetsBridge`], [`Error::Absent`].
    pub fn reset_method(
        &self,
        index: usize,
        together: &dyn Fn(usize) -> bool,
    ) -> Result<ResetMethod, Error> {
        let Some(function) = self.functions.get(index) else {
            return Err(Error::Absent(crate::Address::new(0, 0)));
        };
        if function.express.is_some_and(|express| express.flr) {
            return Ok(ResetMethod::FunctionLevel);
        }
        if function.advanced.is_some() {
            return Ok(ResetMethod::AdvancedFeatures);
        }
        if let Some(at) = function.power {
            let control =
                self.ecam.config(function.address).read16(at.saturating_add(power::CONTROL));
            if control != u16::MAX && control & power::NO_SOFT_RESET == 0 {
                return Ok(ResetMethod::Power);
            }
        }
        let device = function.address;
        let Some(bridge) = function.parent else { return Err(Error::NoReset(device)) };
        if let Some(bridge) = self.bridge_on(bridge) {
            return Err(Error::ResetsBridge { device, bridge });
        }
        let alone = |other: &usize| *other == index || together(*other);
        let other = self.behind(bridge).find(|other| !alone(other));
        match other.and_then(|other| self.functions.get(other)) {
            Some(other) => Err(Error::ResetsOther { device, other: other.address }),
            None => Ok(ResetMethod::SecondaryBus { bridge }),
        }
    }

    /// A bridge on the bus behind this one, whose numbers and windows a reset of
    /// the bus would take.
    fn bridge_on(&self, index: usize) -> Option<Address> {
        let on_it = |other: &&Function| {
            matches!(other.header, Header::Bridge { .. }) && other.parent == Some(index)
        };
        self.functions.iter().find(on_it).map(|bridge| bridge.address)
    }

    /// Switches bus mastering off, waits until no transaction is pending, resets
    /// the function, waits, and sees it come back as what it was. Its BARs have
    /// their addresses again, nothing is decoded and nothing mastered.
    ///
    /// In-flight transactions should have drained before: the caller lets the
    /// stream abort and waits while bus mastering is still on.
    ///
    /// # Errors
    /// [`Error::BusMaster`], [`Error::Pending`], [`Error::NotReady`],
    /// [`Error::Changed`], [`Error::Unplaced`]: the function is not proven idle
    /// and must not change owner.
    pub fn reset(
        &self,
        index: usize,
        method: ResetMethod,
        env: &impl Env,
    ) -> Result<IdleProof, Error> {
        let Some(function) = self.functions.get(index) else {
            return Err(Error::Absent(crate::Address::new(0, 0)));
        };
        let config = self.ecam.config(function.address);
        // Its owner may have reset it just now: it does not respond then (6.6.2).
        answers(function, config, env)?;
        idle::mute(config)?;
        // A function that hangs here may be freed by the reset itself; the proof
        // at the end asks again.
        let _ = idle::drained(function, config, env);
        match method {
            ResetMethod::FunctionLevel => {
                let at = function.express.map_or(0, |express| express.offset);
                let control = at.saturating_add(express::DEVICE_CONTROL);
                config.update16(control, express::INITIATE_FLR, express::INITIATE_FLR);
                pause(env, RESET_WAIT_MS);
            }
            ResetMethod::AdvancedFeatures => {
                let at = function.advanced.unwrap_or(0);
                config.write8(at.saturating_add(advanced::CONTROL), 1);
                pause(env, RESET_WAIT_MS);
            }
            ResetMethod::Power => {
                let control = function.power.unwrap_or(0).saturating_add(power::CONTROL);
                config.update16(control, power::STATE, power::D3HOT);
                pause(env, POWER_WAIT_MS);
                config.update16(control, power::STATE, 0);
                pause(env, RESET_WAIT_MS);
            }
            ResetMethod::SecondaryBus { bridge } => self.reset_bus(bridge, env),
        }
        self.returned(function, config, env)?;
        if let ResetMethod::SecondaryBus { bridge } = method {
            // The others on the bus lost their addresses too.
            for other in self.behind(bridge).filter(|other| *other != index) {
                if let Some(other) = self.functions.get(other) {
                    self.returned(other, self.ecam.config(other.address), env)?;
                }
            }
        }
        idle::prove(function, config, env)
    }

    fn reset_bus(&self, bridge: usize, env: &impl Env) {
        let Some(port) = self.functions.get(bridge) else { return };
        let config = self.ecam.config(port.address);
        config.update16(bridge::CONTROL, bridge::SECONDARY_RESET, bridge::SECONDARY_RESET);
        pause(env, HOLD_MS);
        config.update16(bridge::CONTROL, bridge::SECONDARY_RESET, 0);
        pause(env, RESET_WAIT_MS);
    }

    /// Waits until the function answers as what it was and gives it back its
    /// addresses.
    fn returned(
        &self,
        function: &Function,
        config: Config<'_>,
        env: &impl Env,
    ) -> Result<(), Error> {
        answers(function, config, env)?;
        if config.read32(header::ID) != function.id {
            return Err(Error::Changed(function.address));
        }
        function.restore(config)
    }
}
