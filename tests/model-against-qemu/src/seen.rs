//! What came of an access, in terms that both witnesses share.

use std::fmt;

use palisade_smmu_model::{Class, Event, EventKind};

use crate::place;

/// Where it arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    /// It brought this word.
    Read {
        /// The word.
        word: u64,
    },
    /// It changed a target.
    Wrote {
        /// Which.
        pa: u64,
        /// All of the doubleword is what was written.
        whole: bool,
    },
}

/// What came of an access.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Where it arrived, if anywhere.
    pub reached: Option<Reached>,
    /// What was recorded, without repetitions: an access in parts leaves a record for each.
    pub events: Vec<Event>,
    /// Event numbers that the manual does not know.
    pub unknown: Vec<u8>,
}

impl Seen {
    /// From records of one access to an aligned doubleword.
    #[must_use]
    pub fn from_records(records: &[[u64; 4]]) -> Self {
        let mut seen = Self::default();
        for record in records {
            match Event::decode(*record).map(specified) {
                Some(event) if seen.events.contains(&event) => {}
                Some(event) => seen.events.push(event),
                None => seen.unknown.push(record[0] as u8),
            }
        }
        seen
    }
}

/// The event with what the manual leaves UNKNOWN or the access's parts change taken out.
fn specified(event: Event) -> Event {
    let plain = Event::new(event.kind, event.stream, event.substream);
    let address = event.address & !7;
    let attributes = Event {
        privileged: event.privileged,
        instruction: event.instruction,
        read: event.read,
        address,
        ..plain
    };
    match event.kind {
        EventKind::SteFetch | EventKind::CdFetch => {
            Event { second_address: event.second_address & !0x3f, ..plain }
        }
        EventKind::UnsupportedTransaction => attributes,
        EventKind::WalkAbort => Event {
            stage2: event.stage2,
            class: event.class,
            second_address: event.second_address & !7,
            ..attributes
        },
        EventKind::Translation
        | EventKind::AddressSize
        | EventKind::AccessFlag
        | EventKind::Permission => Event {
            stage2: event.stage2,
            class: event.class,
            table_read: event.table_read,
            // The IPA of a stage 1 fault is UNKNOWN (7.3.13).
            second_address: if event.stage2 { event.second_address & !0xfff } else { 0 },
            ..attributes
        },
        _ => plain,
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reached {
            None => write!(f, "refused")?,
            Some(Reached::Read { word }) if word == place::token(word & 0xffff_ffff) => {
                write!(f, "read {:#x}", word & 0xffff_ffff)?;
            }
            Some(Reached::Read { word }) => write!(f, "read the word {word:#x}")?,
            Some(Reached::Wrote { pa, whole: true }) => write!(f, "wrote {pa:#x}")?,
            Some(Reached::Wrote { pa, whole: false }) => write!(f, "wrote some of {pa:#x}")?,
        }
        for event in &self.events {
            let Event { kind, address, second_address, .. } = event;
            write!(f, "; {kind:?} {}", if event.read { "R" } else { "W" })?;
            if event.stage2 {
                write!(f, " S2")?;
            }
            let class = match event.class {
                Class::Cd => "CD",
                Class::Table => "TT",
                Class::Input => "IN",
            };
            write!(f, " {class} {address:#x} {second_address:#x}")?;
            for (flag, name) in
                [(event.privileged, "PnU"), (event.instruction, "InD"), (event.table_read, "TTRnW")]
            {
                if flag {
                    write!(f, " {name}")?;
                }
            }
        }
        for number in &self.unknown {
            write!(f, "; unknown event {number:#x}")?;
        }
        Ok(())
    }
}
