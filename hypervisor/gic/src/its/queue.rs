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
/// Longest that the hardware may take for a batch, in microseconds. A batch is short; an ITS that
/// takes longer is out of service from then on, so that this is waited for once.
const PATIENCE: u64 = 100_000;

/// The ring of commands. One batch is in flight at a time: every call waits for
/// its own commands, so the ring is empty between calls and cannot overflow
/// for batches shorter than itself.
#[derive(Debug)]
pub(super) struct Queue {
    buffer: DmaBuffer,
    write: u64,
    /// What replaces a command that the hardware refuses.
    harmless: Command,
    /// The hardware did not finish a batch in time: it may do so at any later moment, and nothing
    /// that is asked of it from now on could be told from what was asked before.
    dead: bool,
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
        Ok(Self { buffer, write: 0, harmless: Command::Sync { target: 0 }, dead: false })
    }

    /// Hands over `commands` at once and waits until all are executed. One that the hardware
    /// refuses is skipped, and the rest executed.
    ///
    /// # Errors
    /// [`ItsError::Refused`] with the first command that was skipped; [`ItsError::Timeout`], after
    /// which every call fails at once.
    pub(super) fn run(
        &mut self,
        mmio: &Mmio,
        env: &impl Env,
        commands: &[Command],
    ) -> Result<(), ItsError> {
        if self.dead {
            return Err(ItsError::Timeout("command queue, given up before"));
        }
        if commands.len() as u64 >= BYTES / COMMAND_BYTES {
            return Err(ItsError::Range("batch of commands", commands.len() as u64));
        }
        for command in commands {
            self.put(self.write, *command);
            self.write = (self.write + COMMAND_BYTES) % BYTES;
        }
        mmio.set(CWRITER, self.write);
        let deadline = Deadline::after(env, PATIENCE);
        let mut refused = None;
        // Each turn but the last skips one command of the batch.
        for _ in 0..=commands.len() {
            let mut stalled = false;
            let mut at = 0;
            let done = deadline.wait(env, || {
                let read = mmio.read(CREADR);
                stalled = read.is_set(GITS_CREADR::Stalled);
                at = read.read(GITS_CREADR::Offset) * COMMAND_BYTES % BYTES;
                stalled || at == self.write
            });
            if done && !stalled {
                return refused.map_or(Ok(()), |number| Err(ItsError::Refused(number)));
            }
            if !stalled {
                break;
            }
            // GITS_CWRITER.Retry (12.19.5) executes what stands there by then.
            refused.get_or_insert(self.buffer.load((at / 8) as usize) as u8);
            self.put(at, self.harmless);
            mmio.set(CWRITER, self.write | RETRY);
        }
        self.dead = true;
        Err(ItsError::Timeout("command queue"))
    }

    /// Writes a command into the ring at a byte offset.
    fn put(&self, at: u64, command: Command) {
        let slot = (at / 8) as usize;
        for (word, value) in command.encode().into_iter().enumerate() {
            self.buffer.store(slot + word, value);
        }
        self.buffer.publish(slot, 4);
    }

    /// Tells the queue a redistributor that exists, so that a SYNC to it is harmless.
    pub(super) fn set_target(&mut self, target: u64) {
        self.harmless = Command::Sync { target };
    }
}
