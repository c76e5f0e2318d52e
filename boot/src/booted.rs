//! What boot offers to the main line.

use core::ops::Range;

use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::machine::{Conduit, Machine, MachineError, MapKind, StartMethod};

use crate::image::Image;
use crate::{area, map, power, secondary};

static MAP: Mutex<()> = Mutex::new(Rank::OwnMap, ());

/// The machine that this crate booted.
pub(crate) struct Booted;

impl Machine for Booted {
    fn map(&self, range: Range<u64>, kind: MapKind) -> Result<(), MachineError> {
        let _one_at_a_time = MAP.lock();
        map::add(range, kind)
    }

    fn start(&self, index: usize, affinity: u64, method: StartMethod) -> Result<(), MachineError> {
        secondary::start(index, affinity, method)
    }

    fn off(&self, conduit: Option<Conduit>) -> ! {
        power::off(conduit)
    }

    fn exit(&self, status: u32) -> ! {
        // SAFETY: the trait leaves this to callers that know of semihosting; a
        // wrong call ends in a fatal exception, which is what it asked for.
        unsafe { power::exit(status) }
    }

    fn default_uart(&self) -> Option<u64> {
        Image.default_uart()
    }

    fn default_conduit(&self, level: u64) -> Option<Conduit> {
        let way = match level {
            1 => Conduit::Hvc,
            // An HVC of EL2 is taken to EL2 itself (DDI 0487, C6.2, HVC).
            2 => Conduit::Smc,
            _ => return None,
        };
        Image.default_psci().then_some(way)
    }

    fn stack(&self, index: usize) -> Range<u64> {
        area::stack(index)
    }
}
