//! The guest's command queue (§4): each command is read once, by value.

use palisade_spec::{Cmd, Cs, Opcode, register};

use super::backend::{Backend, CommandFailure};
use super::batch::{Batch, Blamed, Completion};
use super::control::{VirtualSmmu, notify};
use super::events::Events;
use super::registers::Progress;
use super::{ENTRY_UNITS, EXIT_UNITS};

/// log2 of a command's bytes.
const COMMAND: u32 = 4;
/// CMD_CFGI_ALL is CMD_CFGI_STE_RANGE with this range (§4.3.2).
const EVERYTHING: u64 = 31;

/// What one command asks for.
enum Act {
    /// Goes to the physical SMMU with others.
    Gather,
    /// One of the guest's own synchronisations.
    Sync(Completion),
    /// Entries of StreamIDs from the first to the last are read again.
    Entries { first: u32, last: u32 },
    /// A stalled transaction is answered.
    Resume,
    /// Nothing to do here.
    Nothing,
    /// CERROR_ILL.
    Illegal,
}

impl VirtualSmmu {
    /// CMDQ_PROD.
    pub(super) fn set_prod(
        &mut self,
        value: u32,
        backend: &mut dyn Backend,
        events: &Events,
    ) -> Progress {
        self.queue.prod = value & 0xf_ffff;
        self.advance(backend, events)
    }

    /// Works the queue off until it is empty, an error stops it, or the exit's budget is spent.
    pub fn advance(&mut self, backend: &mut dyn Backend, events: &Events) -> Progress {
        let progress = self.work(backend, events);
        if progress == Progress::Again {
            self.counts.continued = self.counts.continued.saturating_add(1);
        }
        progress
    }

    fn work(&mut self, backend: &mut dyn Backend, events: &Events) -> Progress {
        let most = self.identity.command_log2();
        let (mut batch, mut units) = (Batch::default(), EXIT_UNITS);
        let mut progress = Progress::Done;
        let mut error = None;
        let mut cons = self.queue.cons;
        while self.runs(events) && cons != self.queue.wrapped(self.queue.prod, most) {
            if units == 0 {
                progress = Progress::Again;
                break;
            }
            units -= 1;
            let Some(words) = fetch(self.queue.entry(cons, COMMAND, most), backend) else {
                error = self.settle(&mut batch, cons, backend, events).err();
                error = error.or(Some((cons, register::CERROR_ABT)));
                break;
            };
            let act = self.decode(&words);
            match act {
                Act::Gather => batch.push(words, cons),
                Act::Sync(completion) => batch.sync(completion),
                Act::Nothing => {}
                Act::Entries { .. } | Act::Resume | Act::Illegal => {
                    // What came before is complete before these begin.
                    if let Err(blamed) = self.settle(&mut batch, cons, backend, events) {
                        error = Some(blamed);
                        break;
                    }
                    match act {
                        Act::Entries { first, last } => {
                            if !self.entries(first, last, &mut units, backend, events) {
                                progress = Progress::Again;
                                break;
                            }
                        }
                        Act::Resume => backend.resume(&words),
                        _ => {
                            error = Some((cons, register::CERROR_ILL));
                            break;
                        }
                    }
                }
            }
            self.counts.commands = self.counts.commands.saturating_add(1);
            cons = self.queue.next(cons, most);
            if batch.is_full()
                && let Err(blamed) = self.settle(&mut batch, cons, backend, events)
            {
                error = Some(blamed);
                break;
            }
        }
        if error.is_none() {
            error = self.settle(&mut batch, cons, backend, events).err();
        }
        if let Some((at, cerror)) = error {
            self.counts.illegal = self.counts.illegal.saturating_add(1);
            (self.queue.cons, self.cerror) = (at, cerror);
            let signal = events.lock().raise(register::CMDQ_ERR);
            notify(signal, backend, events);
            return Progress::Done;
        }
        progress
    }

    /// Commands are taken: the queue is on and no error of it is active.
    fn runs(&self, events: &Events) -> bool {
        self.cr0 & register::CMDQEN != 0 && !events.lock().is_active(register::CMDQ_ERR)
    }

    /// Completes everything that was gathered and publishes CONS.
    ///
    /// # Errors
    /// Where CONS must stop, and CMDQ_CONS.ERR.
    fn settle(
        &mut self,
        batch: &mut Batch,
        cons: u32,
        backend: &mut dyn Backend,
        events: &Events,
    ) -> Result<(), (u32, u32)> {
        if batch.has_commands() {
            self.counts.batches = self.counts.batches.saturating_add(1);
        }
        let (lost, result) = batch.flush(backend);
        if lost {
            let signal = events.lock().raise(register::MSI_CMDQ_ABT_ERR);
            notify(signal, backend, events);
        }
        match result {
            Ok(()) => {
                self.queue.cons = cons;
                Ok(())
            }
            // A physical SMMU that does not answer looks to the guest like a queue that cannot be
            // read: it may try again, and its device is dead.
            Err(Blamed { cons, why: CommandFailure::Hardware }) => {
                Err((cons, register::CERROR_ABT))
            }
            Err(Blamed { cons, why: CommandFailure::Illegal }) => Err((cons, register::CERROR_ILL)),
        }
    }

    /// Reads the entries of the groups that a range of StreamIDs concerns; false when the budget is
    /// spent before the last of them.
    fn entries(
        &mut self,
        first: u32,
        last: u32,
        units: &mut u32,
        backend: &mut dyn Backend,
        events: &Events,
    ) -> bool {
        while let Some(member) = self.members.get(self.entry_at) {
            if member.streams.iter().any(|stream| (first..=last).contains(stream)) {
                if *units < ENTRY_UNITS {
                    return false;
                }
                *units -= ENTRY_UNITS;
                self.configure(self.entry_at, backend, events);
            }
            self.entry_at += 1;
        }
        self.entry_at = 0;
        true
    }

    fn decode(&mut self, words: &[u64; 2]) -> Act {
        let opcode = Cmd::OPCODE.get(words);
        let is = |wanted: Opcode| opcode == wanted as u64;
        let stream = Cmd::STREAM_ID.get(words) as u32;
        // SSec names a Secure stream, which there is none of (§4.1.6).
        let secure = Cmd::SSEC.get(words) != 0;
        if is(Opcode::PrefetchConfig) || is(Opcode::PrefetchAddr) {
            return if secure { Act::Illegal } else { Act::Nothing };
        }
        if is(Opcode::CfgiSte) {
            return if secure {
                Act::Illegal
            } else {
                Act::Entries { first: stream, last: stream }
            };
        }
        if is(Opcode::CfgiSteRange) {
            let range = Cmd::RANGE.get(words);
            if secure {
                return Act::Illegal;
            }
            if range == EVERYTHING {
                return Act::Entries { first: 0, last: u32::MAX };
            }
            // 2^(Range + 1) StreamIDs, aligned (§4.3.2).
            let span = u32::MAX >> (31 - range as u32);
            return Act::Entries { first: stream & !span, last: stream | span };
        }
        if is(Opcode::CfgiCd) || is(Opcode::CfgiCdAll) {
            return if secure { Act::Illegal } else { self.about(stream) };
        }
        if is(Opcode::AtcInv) {
            return if secure || !self.identity.ats() { Act::Illegal } else { self.about(stream) };
        }
        if is(Opcode::TlbiNhAll)
            || is(Opcode::TlbiNhAsid)
            || is(Opcode::TlbiNhVa)
            || is(Opcode::TlbiNhVaa)
            || is(Opcode::TlbiNsnhAll)
        {
            // While no stage 1 of the guest is in force, nothing of it can be cached: an entry
            // that leaves nesting takes its translations along.
            let any = self.members.iter().any(|member| member.nested);
            return if any { Act::Gather } else { Act::Nothing };
        }
        if is(Opcode::Resume) || is(Opcode::StallTerm) {
            return if secure || !self.identity.stalls() { Act::Illegal } else { Act::Resume };
        }
        if is(Opcode::Sync) {
            self.counts.syncs = self.counts.syncs.saturating_add(1);
            return match Cmd::CS.get(words) {
                cs if cs == Cs::Irq as u64 => {
                    let at = Cmd::MSI_ADDRESS.get_address(words);
                    let data = Cmd::MSI_DATA.get(words) as u32;
                    let message = at != 0 && self.identity.messages();
                    Act::Sync(if message {
                        Completion::Message { at, data }
                    } else {
                        Completion::Wire
                    })
                }
                // Without IDR0.SEV an event is no way to signal; CONS tells all the same.
                cs if cs <= Cs::Sev as u64 => Act::Sync(Completion::None),
                _ => Act::Illegal,
            };
        }
        Act::Illegal
    }

    /// A command about a stream's contexts or device TLB: only where the guest's stage 1 is in force
    /// for it.
    fn about(&self, stream: u32) -> Act {
        let nested =
            |member: &super::control::Member| member.nested && member.streams.contains(&stream);
        if self.members.iter().any(nested) { Act::Gather } else { Act::Nothing }
    }
}

fn fetch(at: palisade_hal::Ipa, backend: &mut dyn Backend) -> Option<[u64; 2]> {
    let mut bytes = [0; 16];
    if !backend.read(at, &mut bytes) {
        return None;
    }
    let (low, high) = bytes.split_at(8);
    Some([u64::from_le_bytes(low.try_into().ok()?), u64::from_le_bytes(high.try_into().ok()?)])
}
