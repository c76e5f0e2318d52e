//! The other cores: started, counted, given something to do.

use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use palisade_board::{BoardInfo, Cpu, EnableMethod};
use palisade_gic::Gic;
use palisade_hal::Deadline;
use palisade_hal::cpu::{self, Counter};
use palisade_hal::machine::{Conduit, MAX_CPUS, Machine, MapKind, StartMethod};

use crate::operator::dispatch;
use crate::vms::{core_loop, system};

/// A core that has not come up after this time never will, in microseconds.
const PATIENCE: u64 = 500_000;

static ONLINE: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// How PSCI is called, in the machine's words.
pub(crate) fn conduit(conduit: palisade_board::Conduit) -> Conduit {
    match conduit {
        palisade_board::Conduit::Smc => Conduit::Smc,
        palisade_board::Conduit::Hvc => Conduit::Hvc,
    }
}

/// Starts every other core, all at once, and waits for them; returns the numbers
/// of those that run, the first core's 0 included. A core that does not come up
/// is named in the log and left out.
pub(crate) fn start(board: &BoardInfo<'_>, machine: &dyn Machine) -> ArrayVec<usize, MAX_CPUS> {
    let own = cpu::affinity();
    let mut cores = ArrayVec::new();
    cores.push(0);
    for other in board.cpus.iter().filter(|other| other.mpidr != own) {
        if cores.is_full() {
            log::warn!("core {:#x} stays off: {MAX_CPUS} cores are supported", other.mpidr);
        } else if start_one(board, machine, other, cores.len()) {
            cores.push(cores.len());
        }
    }
    let deadline = Deadline::after(&Counter, PATIENCE);
    let online = |core: usize| ONLINE.get(core).is_some_and(|up| up.load(Ordering::Acquire));
    cores.retain(|&mut core| {
        let up = core == 0 || deadline.wait(&Counter, || online(core));
        if !up {
            log::error!("core {core} was started and did not come up");
        }
        up
    });
    cores
}

fn start_one(board: &BoardInfo<'_>, machine: &dyn Machine, other: &Cpu, index: usize) -> bool {
    let method = match (other.enable, board.psci.map(conduit)) {
        (EnableMethod::Psci, Some(conduit)) => StartMethod::Psci(conduit),
        (EnableMethod::SpinTable { release }, _) => {
            let page = release.align_down(4096).get();
            let mapped = machine.map(page..page.saturating_add(4096), MapKind::Data);
            if let Err(error) = mapped {
                log::error!("core {:#x} stays off: {error}", other.mpidr);
                return false;
            }
            StartMethod::SpinTable(release.get())
        }
        _ => {
            log::error!("core {:#x} stays off: no way to start it is known", other.mpidr);
            return false;
        }
    };
    if let Err(error) = machine.start(index, other.mpidr, method) {
        log::error!("core {:#x} stays off: {error}", other.mpidr);
        return false;
    }
    true
}

/// Where every core but the first enters.
pub fn secondary(index: usize) -> ! {
    let Some(system) = system::get() else { stay() };
    if let Err(error) = system.machine.gic.init_cpu(index, cpu::affinity()) {
        log::error!("core {index} stays idle: {error}");
        stay();
    }
    log::debug!("core {index} is up, affinity {:#x}", cpu::affinity());
    if let Some(online) = ONLINE.get(index) {
        online.store(true, Ordering::Release);
    }
    while !system.is_built() {
        core_loop::nap(system, dispatch::interrupt);
    }
    core_loop::serve(system, index, dispatch::interrupt);
    stay();
}

/// This core has nothing to do, for good.
fn stay() -> ! {
    loop {
        cpu::wfi();
    }
}
