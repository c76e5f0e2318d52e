//! The writer of live entries.
//!
//! Hardware reads an entry at any instant, in 64-bit pieces, and may keep any piece until it is
//! told to forget it. Invariant, at every sync: on the bits that hardware uses at that instant,
//! but for the safe ones, the entry equals the old or the new one; or it is invalid (V = 0),
//! during a break that could not be avoided. (§3.21.3)

use crate::spec::Words;

/// What the writer needs of an entry in memory. V is bit 0 of word 0 of an STE and bit 31 of
/// word 0 of a CD; the writer only relies on an all-zero word 0 being invalid.
pub trait EntryWriter {
    /// Why a sync failed.
    type Error;

    /// The bits of `entry` that hardware reads.
    fn used(&self, entry: &Words) -> Words;

    /// Those bits used by both entries that may nevertheless change at any time.
    fn safe(&self, current: &Words, target: &Words) -> Words;

    /// Stores one word, in one 64-bit access.
    fn store(&mut self, word: usize, value: u64);

    /// Makes every store so far visible to hardware, and hardware forget what it held.
    ///
    /// # Errors
    /// When hardware did not confirm in time. The entry in memory is then at one of the instants
    /// the invariant speaks of.
    fn sync(&mut self) -> Result<(), Self::Error>;
}

/// How an update went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Update {
    /// Syncs that were needed.
    pub syncs: u32,
    /// Whether the entry had to be invalid in between.
    pub broke: bool,
}

/// Changes a live entry that reads `current` to `target`, without a break where that is possible.
///
/// # Errors
/// The writer's, at the first sync that fails; nothing is stored after it.
pub fn write_entry<W: EntryWriter>(
    writer: &mut W,
    current: &Words,
    target: &Words,
) -> Result<Update, W::Error> {
    let mut session = Session { writer, live: *current, update: Update::default() };
    let (interim, critical) = plan(session.writer, current, target);
    match critical {
        Critical::None => {
            // Whatever differs is not read now, or not read then, or safe.
            session.put(target, |_| true)?;
        }
        Critical::One(word) => {
            session.put(&interim, |at| at != word)?;
            session.put(target, |at| at == word)?;
            session.put(target, |at| at != word)?;
        }
        Critical::Several => {
            session.update.broke = true;
            let mut invalid = session.live;
            invalid[0] = 0;
            session.put(&invalid, |at| at == 0)?;
            session.put(target, |at| at != 0)?;
            session.put(target, |at| at == 0)?;
        }
    }
    Ok(session.update)
}

/// Whether the update from `current` to `target` would have to make a valid entry invalid.
pub fn breaks<W: EntryWriter>(writer: &W, current: &Words, target: &Words) -> bool {
    plan(writer, current, target).1 == Critical::Several
}

/// Which words differ in a bit that both entries use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Critical {
    None,
    One(usize),
    Several,
}

/// The entry with the target's value in every bit that the current one does not use, and the
/// words that must then change in one store.
fn plan<W: EntryWriter>(writer: &W, current: &Words, target: &Words) -> (Words, Critical) {
    let used_now = writer.used(current);
    let used_then = writer.used(target);
    let safe = writer.safe(current, target);
    let mut interim = *current;
    let mut critical = Critical::None;
    for at in 0..interim.len() {
        let free = !used_now[at] | (safe[at] & used_then[at]);
        interim[at] = (current[at] & !free) | (target[at] & free);
        if (interim[at] ^ target[at]) & used_then[at] != 0 {
            critical = match critical {
                Critical::None => Critical::One(at),
                _ => Critical::Several,
            };
        }
    }
    (interim, critical)
}

struct Session<'w, W: EntryWriter> {
    writer: &'w mut W,
    live: Words,
    update: Update,
}

impl<W: EntryWriter> Session<'_, W> {
    /// Stores the chosen words that differ, and syncs when there was one.
    fn put(&mut self, image: &Words, chosen: impl Fn(usize) -> bool) -> Result<(), W::Error> {
        let mut changed = false;
        for (at, (live, &value)) in self.live.iter_mut().zip(image).enumerate() {
            if chosen(at) && *live != value {
                self.writer.store(at, value);
                *live = value;
                changed = true;
            }
        }
        if changed {
            self.update.syncs += 1;
            self.writer.sync()?;
        }
        Ok(())
    }
}
