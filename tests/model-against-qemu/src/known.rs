//! Where QEMU's SMMU (10.0 and 11.1) departs from the manual, and how each error is recognised: as narrowly
//! as it can be, by the case and by what both witnesses saw.

use palisade_smmu_model::{Class, Event, EventKind};

use crate::compare::Disagreement;
use crate::place;
use crate::scene::Scene;
use crate::seen::Seen;
use crate::witness::Way;
use crate::words;

/// One error of QEMU.
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// What QEMU does, and where the manual says otherwise.
    pub what: &'static str,
    /// How it shows.
    pub shows: Shows,
}

/// How an error shows.
pub enum Shows {
    /// A record is there, with something in it wrong: the right one turned into QEMU's. Several
    /// may do so at once. `None` where the error does not concern this record.
    Record(fn(Event) -> Option<Event>),
    /// Something else came of the access.
    Outcome(fn(&Scene, &Disagreement) -> bool),
}

/// The names of the errors that explain a disagreement; nothing if they do not.
#[must_use]
pub fn explain(scene: &Scene, found: &Disagreement) -> Vec<&'static str> {
    let rewritten = rewritten(found);
    if !rewritten.is_empty() {
        return rewritten;
    }
    let explains =
        |known: &&Known| matches!(known.shows, Shows::Outcome(explains) if explains(scene, found));
    KNOWN.iter().find(explains).map(|known| known.name).into_iter().collect()
}

/// The errors that turn the model's one record into QEMU's.
fn rewritten(found: &Disagreement) -> Vec<&'static str> {
    let (model, qemu) = (&found.model.seen, &found.qemu.seen);
    let ([right], [wrong]) = (&model.events[..], &qemu.events[..]) else { return Vec::new() };
    if model.reached != qemu.reached || !qemu.unknown.is_empty() {
        return Vec::new();
    }
    // Which of them took part is not known beforehand: every choice is tried, smallest first.
    let rewrites: Vec<_> = KNOWN
        .iter()
        .filter_map(|known| match known.shows {
            Shows::Record(rewrite) => Some((known.name, rewrite)),
            Shows::Outcome(_) => None,
        })
        .collect();
    let mut choices: Vec<u32> = (1..1 << rewrites.len()).collect();
    choices.sort_by_key(|choice| choice.count_ones());
    for choice in choices {
        let chosen: Vec<_> =
            rewrites.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1).collect();
        let result = chosen.iter().try_fold(*right, |event, (_, (_, rewrite))| rewrite(event));
        if result == Some(*wrong) {
            return chosen.iter().map(|(_, (name, _))| *name).collect();
        }
    }
    Vec::new()
}

/// The one record of `seen`, if it is one of this kind.
fn only(seen: &Seen, kind: EventKind) -> Option<&Event> {
    match &seen.events[..] {
        [event] if event.kind == kind => Some(event),
        _ => None,
    }
}

/// Refused without a record.
fn silent(seen: &Seen) -> bool {
    *seen == Seen::default()
}

fn named(scene: &Scene, parts: &[&str]) -> bool {
    parts.iter().any(|part| scene.name.contains(part))
}

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        name: "TTRnW is never set",
        what: "A stage 2 permission fault of a stage 1 descriptor's read is recorded with \
               TTRnW = 0, a write (7.3.16).",
        shows: Shows::Record(|event| {
            event.table_read.then_some(Event { table_read: false, ..event })
        }),
    },
    Known {
        name: "RnW of the fetch",
        what: "Faults of a CD's or a descriptor's fetch have RnW = 1; it is that of the \
               transaction (7.3).",
        shows: Shows::Record(|event| {
            let fetch = event.class != Class::Input && event.stage2;
            (fetch && !event.read).then_some(Event { read: true, ..event })
        }),
    },
    Known {
        name: "S2 = 0 below the root",
        what: "Stage 2 faults of stage 1's tables below the first have S2 = 0 and no IPA \
               (7.3.13).",
        shows: Shows::Record(|event| {
            (event.stage2 && event.class == Class::Table).then_some(Event {
                stage2: false,
                second_address: 0,
                ..event
            })
        }),
    },
    Known {
        name: "F_CD_FETCH without FetchAddr",
        what: "FetchAddr is 0 (7.3.10).",
        shows: Shows::Record(|event| {
            (event.kind == EventKind::CdFetch).then_some(Event { second_address: 0, ..event })
        }),
    },
    Known {
        name: "no IPA out of the TLB",
        what: "A permission fault of stage 2 that a TLB entry of both stages causes is recorded \
               with IPA 0 (7.3.16).",
        shows: Shows::Record(|event| {
            let ours = event.kind == EventKind::Permission && event.class == Class::Input;
            (ours && event.stage2).then_some(Event { second_address: 0, ..event })
        }),
    },
    Known {
        name: "access flag before size",
        what: "A leaf without AF whose output is too large is an access flag fault; the size \
               comes first (DDI 0487, D8.15.5).",
        shows: Shows::Record(|event| {
            (event.kind == EventKind::AddressSize)
                .then_some(Event { kind: EventKind::AccessFlag, ..event })
        }),
    },
    Known {
        name: "permission before size",
        what: "A leaf without the right whose output is too large is a permission fault; the \
               size comes first (DDI 0487, D8.15.5).",
        shows: Shows::Record(|event| {
            (event.kind == EventKind::AddressSize)
                .then_some(Event { kind: EventKind::Permission, ..event })
        }),
    },
    Known {
        name: "concatenated roots",
        what: "Of tables side by side at the start of stage 2 only the first is used (DDI 0487, \
               D8.2.2).",
        shows: Shows::Outcome(|scene, _| named(scene, &["concatenated"])),
    },
    Known {
        name: "blocks at every level",
        what: "Bits 1:0 = 0b01 are a block at level 0 and, with 16K and 64K, at level 1 too; \
               they are reserved there (DDI 0487, D8.3.1).",
        shows: Shows::Outcome(|scene, found| {
            let qemu = &found.qemu.seen;
            named(scene, &["block at level", "reserved at level"])
                && only(&found.model.seen, EventKind::Translation).is_some()
                && (qemu.reached.is_some() || only(qemu, EventKind::AccessFlag).is_some())
        }),
    },
    Known {
        name: "TBI1 is read from TBI0",
        what: "Whether TTB1's region ignores the top byte is told by CD.TBI0 (5.4).",
        shows: Shows::Outcome(|scene, found| {
            let cd = scene.first_word(scene.context());
            let differ = (cd & words::TBI0 == 0) != (cd & words::TBI1 == 0);
            differ && found.model.address >> 55 & 1 == 1 && found.model.address >> 56 != 0xff
        }),
    },
    Known {
        name: "no record of a size without stage 1",
        what: "An input beyond the output size that bypasses stage 1 is refused without \
               F_ADDR_SIZE (3.4).",
        shows: Shows::Outcome(|scene, found| {
            let model = &found.model.seen;
            scene.ste[0] >> 1 & 1 == 0
                && only(model, EventKind::AddressSize).is_some_and(|event| !event.stage2)
                && silent(&found.qemu.seen)
        }),
    },
    Known {
        name: "S2PTW is ignored",
        what: "Stage 1's tables and CDs may lie in device memory of stage 2 though S2PTW = 1 \
               (5.2).",
        shows: Shows::Outcome(|scene, found| {
            let fault = only(&found.model.seen, EventKind::Permission);
            scene.ste[2] & words::S2PTW != 0
                && fault.is_some_and(|event| event.stage2 && event.class != Class::Input)
                && found.qemu.seen.reached.is_some()
        }),
    },
    Known {
        name: "one privilege",
        what: "A device's unprivileged access (13.7) is treated as privileged: AP[1] and \
               APTable[0] do not count (DDI 0487, D8.4.1).",
        shows: Shows::Outcome(|scene, found| {
            named(scene, &["privileged", "APTable[0]"])
                && only(&found.model.seen, EventKind::Permission).is_some()
                && found.qemu.seen.reached.is_some()
        }),
    },
    Known {
        name: "APTable is lost in the TLB",
        what: "What a table descriptor takes away is taken away by walks only: after a read \
               has filled the TLB, a write passes (DDI 0487, D8.4.1.2).",
        shows: Shows::Outcome(|scene, found| {
            named(scene, &["APTable[1]"])
                && found.model.nth > 0
                && only(&found.model.seen, EventKind::Permission).is_some()
                && found.qemu.seen.reached.is_some()
        }),
    },
    Known {
        name: "reads pass a TLB entry",
        what: "Of an entry in the TLB only the right to write is looked at: after a write has \
               filled it, reads pass a page that is write-only at stage 2 (DDI 0487, D8.4.2).",
        shows: Shows::Outcome(|scene, found| {
            let model = &found.model.seen;
            let fault = only(model, EventKind::Permission);
            let unrecorded = silent(model) && scene.ste[2] & words::S2R == 0;
            found.model.nth > 0
                && found.model.way == Way::Read
                && (fault.is_some_and(|event| event.stage2) || unrecorded)
                && found.qemu.seen.reached.is_some()
        }),
    },
    Known {
        name: "no record out of the TLB",
        what: "What a TLB entry of stage 2 refuses is recorded only where CD.R says so, which a \
               stream without stage 1 does not have (5.5).",
        shows: Shows::Outcome(|scene, found| {
            let fault = only(&found.model.seen, EventKind::Permission);
            scene.ste[0] >> 1 & 1 == 0
                && found.model.nth > 0
                && fault.is_some_and(|event| event.stage2)
                && silent(&found.qemu.seen)
        }),
    },
    Known {
        name: "a table's first address for all",
        what: "Stage 2 is asked for the first address of a stage 1 table only, and that is \
               recorded; where its pages are smaller than the table, what lies behind is taken \
               for granted (3.3.3, 7.3.13).",
        shows: Shows::Outcome(|scene, found| {
            let larger = named(scene, &["64K in", "16K in"]);
            let of_a_table = |seen: &Seen| match &seen.events[..] {
                [event] => event.class == Class::Table,
                _ => false,
            };
            let (model, qemu) = (&found.model.seen, &found.qemu.seen);
            // Without S2R neither records what its own look-up refuses.
            let unrecorded = scene.ste[2] & words::S2R == 0
                && (silent(model) && qemu.reached.is_some()
                    || silent(qemu) && model.reached.is_some());
            larger && (of_a_table(model) || of_a_table(qemu) || unrecorded)
        }),
    },
    Known {
        name: "tables of any size",
        what: "A table's address beyond IPS or S2PS is fetched, not an address size fault \
               (DDI 0487, D8.15.5).",
        shows: Shows::Outcome(|scene, found| {
            let Disagreement { model, qemu } = found;
            let size = only(&model.seen, EventKind::AddressSize);
            // Without S2R the right record is none; external aborts are recorded always (5.5).
            let unrecorded = silent(&model.seen) && scene.ste[2] & words::S2R == 0;
            let fetched = only(&qemu.seen, EventKind::WalkAbort)
                .is_some_and(|event| !place::RAM.contains(&event.second_address));
            // Beneath stage 1, stage 2 may be asked for it.
            let asked = only(&qemu.seen, EventKind::AddressSize)
                .is_some_and(|event| event.class == Class::Table);
            size.is_some() && (fetched || asked) || unrecorded && fetched
        }),
    },
    Known {
        name: "S2HA and S2HD are taken",
        what: "Both are ILLEGAL without HTTU (5.2).",
        shows: Shows::Outcome(|scene, found| {
            named(scene, &["STE S2H"]) && only(&found.model.seen, EventKind::BadSte).is_some()
        }),
    },
    Known {
        name: "RECINVSID is ignored",
        what: "C_BAD_STREAMID is recorded though CR2.RECINVSID = 0 (6.3.12).",
        shows: Shows::Outcome(|scene, found| {
            named(scene, &["RECINVSID = 0"])
                && silent(&found.model.seen)
                && only(&found.qemu.seen, EventKind::BadStreamId).is_some()
        }),
    },
    Known {
        name: "Span is one too large",
        what: "A level 1 descriptor reaches 2^Span STEs instead of 2^(Span - 1), and its Span is \
               not held against SPLIT (5.1).",
        shows: Shows::Outcome(|scene, found| {
            named(scene, &["level 1 descriptor with a"])
                && only(&found.model.seen, EventKind::BadStreamId).is_some()
        }),
    },
    Known {
        name: "start levels with too few bits",
        what: "S2SL0 may be a level that S2T0SZ leaves nothing for; it is ILLEGAL (5.2).",
        shows: Shows::Outcome(|scene, found| {
            named(scene, &["STE S2T0SZ 39", "STE S2SL0 2"])
                && only(&found.model.seen, EventKind::BadSte).is_some()
                && only(&found.qemu.seen, EventKind::Translation).is_some()
        }),
    },
    Known {
        name: "S2PS limits the input",
        what: "S2T0SZ is held against S2PS; the manual holds it against IAS (3.4, 5.2).",
        shows: Shows::Outcome(|scene, found| {
            named(scene, &["STE S2PS"])
                && found.model.seen.reached.is_some()
                && only(&found.qemu.seen, EventKind::BadSte).is_some()
        }),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::play::Trace;
    use crate::scene::Plan;

    #[test]
    fn each_has_a_name_of_its_own_and_its_section() {
        let names: BTreeSet<_> = KNOWN.iter().map(|known| known.name).collect();
        assert_eq!(names.len(), KNOWN.len());
        for known in KNOWN {
            assert!(known.what.ends_with(").") && known.what.contains('('), "{}", known.what);
        }
    }

    #[test]
    fn what_is_wrong_in_another_way_is_not_explained() {
        let scene = Plan::new("nested 4K in 4K, CD unmapped", |_| ()).scene(0);
        let trace = |event: Event| Trace {
            name: scene.name.clone(),
            nth: 0,
            address: 0x1000,
            way: Way::Write,
            seen: Seen { events: vec![event], ..Seen::default() },
        };
        let right = Event {
            stage2: true,
            class: Class::Cd,
            address: 0x1000,
            second_address: 0x5000,
            ..Event::new(EventKind::Translation, 8, None)
        };
        let explained = |event: Event| {
            explain(&scene, &Disagreement { model: trace(right), qemu: trace(event) })
        };
        assert_eq!(explained(Event { read: true, ..right }), ["RnW of the fetch"]);
        for wrong in [
            Event { stream: 9, ..right },
            Event { address: 0x2000, ..right },
            Event { second_address: 0x6000, ..right },
            Event { class: Class::Input, ..right },
            Event { kind: EventKind::Permission, ..right },
            Event { stage2: false, read: true, ..right },
        ] {
            assert!(explained(wrong).is_empty(), "{wrong:?}");
        }
    }
}
