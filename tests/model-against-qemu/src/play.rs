//! Plays scenes on one witness, many devices side by side, and notes what came of each access.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::place::{self, token};
use crate::scene::{Scene, Step};
use crate::seen::{Reached, Seen};
use crate::smmu::{Settings, Smmu};
use crate::witness::{BUFFER, Transfer, Way, Witness};
use crate::words::{self, plain};

/// Half of a device's buffer is what it writes, half what it has read: one doubleword per access.
const HALF: usize = BUFFER / 2;
/// What a read leaves behind that brought nothing.
const NOTHING: u64 = 0x0b50_0b50_0b50_0b50;

/// The word that the `nth` access of a device writes.
const fn written(slot: usize, nth: usize) -> u64 {
    0xd0d0_0000_0000_0000 | (slot as u64) << 32 | nth as u64
}

/// One access, and what came of it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The case's name.
    pub name: String,
    /// Which of its accesses.
    pub nth: usize,
    /// As the device sees it.
    pub address: u64,
    /// Which way.
    pub way: Way,
    /// What came of it.
    pub seen: Seen,
}

/// Stores an STE.
fn set_ste(on: &mut dyn Witness, stream: u32, words: &[u64; 8]) -> Result<()> {
    let places = (place::ste(stream)..).step_by(8);
    on.store(&places.zip(words.iter().copied()).collect::<Vec<_>>())
}

/// What a stage of the play needs to know of one scene.
struct Part<'a> {
    scene: &'a Scene,
    /// Where in `scene.steps`.
    at: usize,
    /// Accesses so far.
    accesses: usize,
}

/// Plays all scenes together, each on its own slot, under `settings`.
///
/// # Errors
/// The machine is gone, a command is refused, or an event comes from a stream that is silent.
pub fn play(on: &mut dyn Witness, scenes: &[Scene], settings: Settings) -> Result<Vec<Trace>> {
    fill(on, scenes, settings)?;
    for scene in scenes {
        on.store(&scene.beginning())?;
        set_ste(on, scene.stream(), &scene.ste)?;
    }
    let mut smmu = Smmu::start(on, settings)?;
    let mut parts: Vec<Part<'_>> =
        scenes.iter().map(|scene| Part { scene, at: 0, accesses: 0 }).collect();
    let mut traces = Vec::new();
    while round(on, &mut smmu, &mut parts, &mut traces)? {}
    drain(on, scenes, settings, &mut traces)?;
    clear(on, scenes)?;
    Ok(traces)
}

/// Targets hold their tokens, and buffers what is to be written.
fn fill(on: &mut dyn Witness, scenes: &[Scene], settings: Settings) -> Result<()> {
    for scene in scenes {
        let base = place::slice(scene.slot);
        let targets = (base..base + place::TARGETS).step_by(0x1000);
        // Only these offsets are accessed: see `offsets`.
        let targets = targets.flat_map(|page| offsets().map(move |at| page + at));
        on.store(&targets.map(|pa| (pa, token(pa))).collect::<Vec<_>>())?;
        let pattern = (0..BUFFER).map(|nth| {
            let word = if nth < HALF { written(scene.slot, nth) } else { NOTHING };
            (base + place::PATTERN + nth as u64 * 8, word)
        });
        on.store(&pattern.collect::<Vec<_>>())?;
    }
    bypass(on, scenes, settings)?;
    if on.reads() { on.transfer(&whole(scenes, Way::Read, place::PATTERN)) } else { Ok(()) }
}

/// Lets all devices reach memory as it is. The format of the stream table stays: QEMU does not
/// go back from two levels to one.
fn bypass(on: &mut dyn Witness, scenes: &[Scene], settings: Settings) -> Result<()> {
    for scene in scenes {
        set_ste(on, scene.stream(), &plain(words::BYPASS))?;
    }
    if let Some(split) = settings.split {
        let level1 = |index: u64| {
            let table = place::ste((index << split) as u32);
            (place::STREAMS_FIRST + index * 8, table | u64::from(split + 1))
        };
        let count = 1 << settings.streams.saturating_sub(split);
        on.store(&(0..count).map(level1).collect::<Vec<_>>())?;
    }
    Smmu::start(on, Settings { split: settings.split, ..Settings::default() })?;
    Ok(())
}

/// The offsets within 4 KiB that accesses may use.
fn offsets() -> impl Iterator<Item = u64> {
    [0, 0x7f8, 0xff8].into_iter()
}

/// Each device's whole buffer.
fn whole(scenes: &[Scene], way: Way, offset: u64) -> Vec<Transfer> {
    let transfer = |scene: &Scene| {
        let address = place::slice(scene.slot) + offset;
        Transfer { slot: scene.slot, address, way, word: 0, words: BUFFER }
    };
    scenes.iter().map(transfer).collect()
}

/// Each part up to its next access, then all accesses at once. False when there were none.
fn round(
    on: &mut dyn Witness,
    smmu: &mut Smmu,
    parts: &mut [Part<'_>],
    traces: &mut Vec<Trace>,
) -> Result<bool> {
    let mut transfers = Vec::new();
    for part in &mut *parts {
        while let Some(step) = part.scene.steps.get(part.at) {
            part.at += 1;
            match step {
                Step::Store(words) => on.store(words)?,
                Step::Commands(commands) => smmu.send(on, commands)?,
                Step::Access { address, way } => {
                    let half = if *way == Way::Write { 0 } else { HALF };
                    let word = half + part.accesses;
                    let slot = part.scene.slot;
                    let way = *way;
                    transfers.push(Transfer { slot, address: *address, way, word, words: 1 });
                    break;
                }
            }
        }
    }
    if transfers.is_empty() {
        return Ok(false);
    }
    on.transfer(&transfers)?;
    let mut events = smmu.events(on)?;
    for transfer in &transfers {
        let Some(part) = parts.iter_mut().find(|part| part.scene.slot == transfer.slot) else {
            continue;
        };
        let stream = part.scene.stream();
        let ours: Vec<[u64; 4]> =
            events.extract_if(.., |event| (event[0] >> 32) as u32 == stream).collect();
        let mut seen = Seen::from_records(&ours);
        if transfer.way == Way::Write {
            seen.reached = changed(on, part, transfer)?;
        }
        traces.push(Trace {
            name: part.scene.name.clone(),
            nth: part.accesses,
            address: transfer.address,
            way: transfer.way,
            seen,
        });
        part.accesses += 1;
    }
    ensure!(events.is_empty(), "{}: events of silent streams: {events:x?}", on.name());
    Ok(true)
}

/// Where among the targets a write has arrived; the target gets its token back.
fn changed(on: &mut dyn Witness, part: &Part<'_>, transfer: &Transfer) -> Result<Option<Reached>> {
    let base = place::slice(part.scene.slot);
    let offset = transfer.address & 0xff8;
    let places: Vec<u64> =
        (base..base + place::TARGETS).step_by(0x1000).map(|page| page + offset).collect();
    let mut reached = None;
    for (pa, word) in places.iter().zip(on.load(&places)?) {
        let before = token(*pa);
        if word != before {
            on.store(&[(*pa, before)])?;
            let whole = word == on.becomes(before, written(part.scene.slot, part.accesses));
            reached = Some(Reached::Wrote { pa: *pa, whole });
        }
    }
    Ok(reached)
}

/// What reads have brought lies in the devices' buffers: it is written out and noted.
fn drain(
    on: &mut dyn Witness,
    scenes: &[Scene],
    settings: Settings,
    traces: &mut [Trace],
) -> Result<()> {
    bypass(on, scenes, settings)?;
    if !on.reads() {
        return Ok(());
    }
    on.transfer(&whole(scenes, Way::Write, place::RESULT))?;
    for scene in scenes {
        let result = place::slice(scene.slot) + place::RESULT + HALF as u64 * 8;
        let places: Vec<u64> = (result..).step_by(8).take(HALF).collect();
        let words = on.load(&places)?;
        for trace in traces.iter_mut().filter(|trace| trace.name == scene.name) {
            let word = words.get(trace.nth).copied().unwrap_or(NOTHING);
            if trace.way == Way::Read && ![NOTHING, 0, u64::MAX].contains(&word) {
                trace.seen.reached = Some(Reached::Read { word });
            }
        }
    }
    Ok(())
}

/// Leaves nothing behind for the next scenes.
fn clear(on: &mut dyn Witness, scenes: &[Scene]) -> Result<()> {
    for scene in scenes {
        let mut places: BTreeSet<u64> = scene.image.keys().copied().collect();
        for step in &scene.steps {
            if let Step::Store(words) = step {
                places.extend(words.iter().map(|(pa, _)| *pa));
            }
        }
        on.store(&places.into_iter().map(|pa| (pa, 0)).collect::<Vec<_>>())?;
        set_ste(on, scene.stream(), &[0; 8])?;
    }
    Ok(())
}
