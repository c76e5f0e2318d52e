//! The command queue (IHI 0069, 5.3.1 and 12.19.2 to 12.19.5).

use alloc::sync::Arc;

use palisade_hal::mmio::Mmio;
use palisade_hal::{Deadline, Env};
use palisade_mem::{DmaBuffer, Frames};

use super::regs::{
    CACHE_RAWAWB, CBASER, CREADR, CWRITER, GITS_CBASER, GITS_CREADR, INNER_SHAREABLE,
};
use super::{Command, ItsError};

const BYTES: u64 = 64 * 1024;
const COMMAND_BYTES: u64 = 32;
/// GITS_CWRITER.Retry: execute the command at CREADR again.
const RETRY: u64 = 1 << 0;
/// Longest that the hardware may take for a batch, in microseconds.
const PATIENCE: u64 = 1_000_000;

/// The ring of commands. One batch is in flight at a time: every call waits for
/// its own commands, so the ring is empty between calls and cannot overflow
/// for batches shorter than itself.
#[derive(Debug)]
pub(super) struct Queue {
    buffer: DmaBuffer,
    write: u64,
    /// What replaces a command that the hardware refuses.
    harmless: Command,
}

impl Queue {
    pub(super) fn new(mmio: &Mmio, frames: &Arc<Frames>) -> Result<Self, ItsError> {
        let buffer = DmaBuffer::new(frames, BYTES, true)?;
        mmio.write(
            CBASER,
            GITS_CBASER::Valid::SET
                + GITS_CBASER::InnerCache.val(CACHE_RAWAWB)
                + GITS_CBASER::Shareability.val(INNER_SHAREABLE)
                + GITS_CBASER::Address.val(buffer.pa().get() >> 12)
                + GITS_CBASER::Size.val(BYTES / 4096 - 1),
        );
        mmio.set(CWRITER, 0);
        // Shareability 0 read back means that the ITS does not see the caches.
        if mmio.read(CBASER).read(GITS_CBASER::Shareability) == 0 {
            return Err(ItsError::Unsupported("non-coherent command queue"));
        }
        Ok(Self { buffer, write: 0, harmless: Command::Sync { target: 0 } })
    }

    /// Hands over `commands` at once and waits until all are executed.
    pub(super) fn run(
        &mut self,
        mmio: &Mmio,
        env: &impl Env,
        commands: &[Command],
    ) -> Result<(), ItsError> {
        if commands.len() as u64 >= BYTES / COMMAND_BYTES {
            return Err(ItsError::Range("batch of commands", commands.len() as u64));
        }
        for command in commands {
            let slot = (self.write / 8) as usize;
            for (word, value) in command.encode().into_iter().enumerate() {
                self.buffer.store(slot + word, value);
            }
            self.buffer.publish(slot, 4);
            self.write = (self.write + COMMAND_BYTES) % BYTES;
        }
        mmio.set(CWRITER, self.write);
        let mut stalled = false;
        let done = Deadline::after(env, PATIENCE).wait(env, || {
            let at = mmio.read(CREADR);
            stalled = at.is_set(GITS_CREADR::Stalled);
            stalled || at.read(GITS_CREADR::Offset) * COMMAND_BYTES == self.write
        });
        if stalled {
            return Err(self.skip_refused(mmio, env));
        }
        if done { Ok(()) } else { Err(ItsError::Timeout("command queue")) }
    }

    /// Tells the queue a redistributor that exists, so that a SYNC to it is harmless.
    pub(super) fn set_target(&mut self, target: u64) {
        self.harmless = Command::Sync { target };
    }

    /// The queue stands still at a refused command: everything not yet executed becomes
    /// harmless, and the queue goes on (GITS_CWRITER.Retry, 12.19.5).
    fn skip_refused(&mut self, mmio: &Mmio, env: &impl Env) -> ItsError {
        let mut at = mmio.read(CREADR).read(GITS_CREADR::Offset) * COMMAND_BYTES % BYTES;
        let number = self.buffer.load((at / 8) as usize) as u8;
        // Bounded by the ring: `at` takes each slot at most once.
        for _ in 0..BYTES / COMMAND_BYTES {
            if at == self.write {
                break;
            }
            let slot = (at / 8) as usize;
            for (word, value) in self.harmless.encode().into_iter().enumerate() {
                self.buffer.store(slot + word, value);
            }
            self.buffer.publish(slot, 4);
            at = (at + COMMAND_BYTES) % BYTES;
        }
        mmio.set(CWRITER, self.write | RETRY);
        let done = Deadline::after(env, PATIENCE).wait(env, || {
            mmio.read(CREADR).read(GITS_CREADR::Offset) * COMMAND_BYTES == self.write
        });
        if done { ItsError::Refused(number) } else { ItsError::Timeout("command queue, stalled") }
    }
}
