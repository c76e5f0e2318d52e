//! A live entry that notes every image hardware may see.

use palisade_smmuv3::entry::used::{cd_used, ste_safe, ste_used};
use palisade_smmuv3::entry::writer::{EntryWriter, write_entry};
use palisade_smmuv3::spec::{Cd, Ste};

use super::words::Words;

/// What the words are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A stream table entry.
    Ste,
    /// A context descriptor.
    Cd,
}

struct Recorder {
    kind: Kind,
    live: Words,
    images: Vec<Words>,
}

impl EntryWriter for Recorder {
    type Error = std::convert::Infallible;

    fn used(&self, entry: &Words) -> Words {
        match self.kind {
            Kind::Ste => ste_used(entry),
            Kind::Cd => cd_used(entry),
        }
    }

    fn safe(&self, current: &Words, target: &Words) -> Words {
        match self.kind {
            Kind::Ste => ste_safe(current, target),
            Kind::Cd => [0; 8],
        }
    }

    fn store(&mut self, word: usize, value: u64) {
        self.live[word] = value;
    }

    fn sync(&mut self) -> Result<(), Self::Error> {
        self.images.push(self.live);
        Ok(())
    }
}

/// How an update went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Syncs.
    pub syncs: u64,
    /// Whether no image was invalid.
    pub hitless: bool,
}

/// Updates `old` to `new`.
///
/// # Errors
/// An image that is neither the old nor the new entry on the bits used at that instant, nor
/// invalid; or a last image that is not the target.
pub fn update(kind: Kind, old: &Words, new: &Words) -> Result<Seen, String> {
    let mut recorder = Recorder { kind, live: *old, images: Vec::new() };
    let Ok(done) = write_entry(&mut recorder, old, new);
    let valid = |image: &Words| match kind {
        Kind::Ste => Ste::V.get(image) == 1,
        Kind::Cd => Cd::V.get(image) == 1,
    };
    let safe = recorder.safe(old, new);
    for image in &recorder.images {
        let used = recorder.used(image);
        let is = |reference: &Words| {
            (0..8).all(|at| (image[at] ^ reference[at]) & used[at] & !safe[at] == 0)
        };
        if valid(image) && !is(old) && !is(new) {
            return Err(format!("{image:#018x?} is neither the old nor the new entry"));
        }
    }
    if recorder.live != *new {
        return Err(format!("{:#018x?} is not the target", recorder.live));
    }
    if done.syncs as usize != recorder.images.len() {
        return Err(format!("{} syncs told, {} seen", done.syncs, recorder.images.len()));
    }
    Ok(Seen { syncs: done.syncs.into(), hitless: recorder.images.iter().all(valid) })
}
