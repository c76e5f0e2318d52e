//! The writer of live entries, seen by a recorder at every sync.
//!
//! Properties:
//! 1. At every sync the live entry equals, on the bits used at that instant minus the safe ones,
//!    the old or the new entry; or it is invalid, and then the update says that it broke.
//! 2. The last image is the target.
//! 3. Nothing is synced without a store, nothing is stored without a later sync.
//! 4. A second update to the same target stores nothing.

use palisade_smmuv3::entry::encode::{
    CdStage1, ImageFeatures, SteStage1, SteStage2, cd_quiesced, cd_stage1, ste_abort, ste_bypass,
    ste_nested, ste_stage1, ste_stage2,
};
use palisade_smmuv3::entry::used::{cd_used, ste_safe, ste_used};
use palisade_smmuv3::entry::writer::{EntryWriter, Update, write_entry};
use palisade_smmuv3::spec::{S1Dss, S1Fmt, Words};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ste,
    Cd,
}

struct Recorder {
    kind: Kind,
    old: Words,
    new: Words,
    live: Words,
    stores: u32,
    images: Vec<Words>,
    fail_at: Option<usize>,
}

impl Recorder {
    fn valid(&self, entry: &Words) -> bool {
        match self.kind {
            Kind::Ste => entry[0] & 1 == 1,
            Kind::Cd => entry[0] & 1 << 31 != 0,
        }
    }

    fn matches(&self, reference: &Words) -> bool {
        let used = self.used(&self.live);
        let safe = self.safe(&self.old, &self.new);
        (0..8).all(|at| (self.live[at] ^ reference[at]) & used[at] & !safe[at] == 0)
    }
}

impl EntryWriter for Recorder {
    type Error = usize;

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
        self.stores += 1;
    }

    fn sync(&mut self) -> Result<(), usize> {
        assert!(self.stores > 0, "a sync without a store");
        self.stores = 0;
        assert!(
            self.matches(&self.old) || self.matches(&self.new) || !self.valid(&self.live),
            "neither the old nor the new entry: {:x?}",
            self.live
        );
        self.images.push(self.live);
        if self.fail_at == Some(self.images.len()) { Err(self.images.len()) } else { Ok(()) }
    }
}

fn run(kind: Kind, old: &Words, new: &Words) -> (Update, Vec<Words>) {
    let mut recorder = Recorder {
        kind,
        old: *old,
        new: *new,
        live: *old,
        stores: 0,
        images: Vec::new(),
        fail_at: None,
    };
    let update = write_entry(&mut recorder, old, new).unwrap();
    assert_eq!(recorder.live, *new);
    assert_eq!(recorder.stores, 0, "a store without a sync");
    assert_eq!(update.syncs as usize, recorder.images.len());
    let invalid = recorder.images.iter().any(|image| !recorder.valid(image));
    let ends_valid = recorder.valid(old) && recorder.valid(new);
    assert_eq!(update.broke, invalid && ends_valid);
    let again = write_entry(&mut recorder, new, new).unwrap();
    assert_eq!(again, Update::default());
    (update, recorder.images)
}

const FEATURES: ImageFeatures =
    ImageFeatures { attr_types_ovr: true, e2h: false, stalls_configurable: true };

fn stage1(dss: S1Dss, pointer: u64, stall: bool, ats: bool) -> SteStage1 {
    SteStage1 {
        s1_fmt: S1Fmt::Leaf64K,
        s1_context_ptr: pointer,
        s1_cd_max: 16,
        s1_dss: dss,
        stall,
        ats,
    }
}

fn stage2(vmid: u16, root: u64, stall: bool, ats: bool) -> SteStage2 {
    SteStage2 { vmid, vtcr: 0x2_3558, s2ttb: root, stall, fwb: false, ats }
}

fn entries() -> Vec<Words> {
    let mut all = vec![[0; 8], ste_abort().0, ste_bypass(FEATURES).0];
    for (dss, pointer) in [
        (S1Dss::Substream0, 0x8000_0000),
        (S1Dss::Bypass, 0x8000_0000),
        (S1Dss::Terminate, 0x9000_0000),
    ] {
        for ats in [false, true] {
            let one = stage1(dss, pointer, false, ats);
            all.push(ste_stage1(FEATURES, &one, 0).0);
            for (vmid, root) in [(1, 0x4000_0000), (2, 0x5000_0000)] {
                all.push(ste_nested(FEATURES, &one, &stage2(vmid, root, false, ats)).0);
            }
        }
    }
    for (vmid, root, stall, ats) in [
        (1, 0x4000_0000, false, false),
        (2, 0x4000_0000, false, false),
        (2, 0x5000_0000, true, false),
        (3, 0x6000_0000, false, true),
    ] {
        all.push(ste_stage2(FEATURES, &stage2(vmid, root, stall, ats)).0);
    }
    all
}

/// Property 1 to 4 for every ordered pair of the stream table entries the encoders make.
#[test]
fn every_pair_of_stream_table_entries() {
    for old in entries() {
        for new in entries() {
            run(Kind::Ste, &old, &new);
        }
    }
}

/// Property 1 to 4 for pseudo-random pairs, reserved configurations included.
#[test]
fn random_pairs() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000 {
        let mut draw = || {
            let mut words = [0; 8];
            for word in &mut words[..4] {
                // Sparse changes make the one-word case common, dense ones the break.
                *word = if round % 2 == 0 { next() & next() & next() } else { next() };
            }
            words
        };
        let (old, new) = (draw(), draw());
        run(Kind::Ste, &old, &new);
        run(Kind::Cd, &old, &new);
    }
}

fn expect(kind: Kind, old: Words, new: Words, syncs: u32, hitless: bool) {
    let (update, images) = run(kind, &old, &new);
    assert_eq!(update.syncs, syncs, "{images:x?}");
    let invalid = |image: &Words| match kind {
        Kind::Ste => image[0] & 1 == 0,
        Kind::Cd => image[0] & 1 << 31 == 0,
    };
    assert_eq!(!images.iter().any(invalid), hitless, "{images:x?}");
}

/// The transitions a driver makes, with the number of syncs each may cost.
#[test]
fn known_transitions() {
    let abort = ste_abort().0;
    let bypass = ste_bypass(FEATURES).0;
    let table = |dss| ste_stage1(FEATURES, &stage1(dss, 0x8000_0000, false, true), 0).0;
    let ssid0 = table(S1Dss::Substream0);
    let s1bypass = table(S1Dss::Bypass);
    // A stage 1 entry is tagged with S2VMID too: only with the same one is the change hitless.
    let s2 = ste_stage2(FEATURES, &stage2(0, 0x4000_0000, false, true)).0;
    let s2_stall = ste_stage2(FEATURES, &stage2(0, 0x4000_0000, true, false)).0;
    let s1_stall = ste_stage1(FEATURES, &stage1(S1Dss::Substream0, 0x8000_0000, true, false), 0).0;
    for (a, b, syncs) in [
        (bypass, abort, 2),
        (ssid0, abort, 2),
        (s2, abort, 2),
        (s2, bypass, 2),
        (ssid0, bypass, 3),
        (s1bypass, bypass, 2),
        (ssid0, s1bypass, 1),
        (ssid0, s2, 3),
        (s1_stall, s2_stall, 3),
    ] {
        expect(Kind::Ste, a, b, syncs, true);
        expect(Kind::Ste, b, a, syncs, true);
    }
    let one = stage1(S1Dss::Bypass, 0x8000_0000, false, true);
    let two = stage2(1, 0x4000_0000, false, false);
    let mut nested = ste_nested(FEATURES, &one, &SteStage2 { ats: true, ..two }).0;
    nested[1] |= 1 << 19;
    let alone = ste_stage2(FEATURES, &two).0;
    expect(Kind::Ste, nested, alone, 3, true);
    expect(Kind::Ste, alone, nested, 2, true);
    let moved = ste_stage1(FEATURES, &stage1(S1Dss::Bypass, 0x9000_0000, false, true), 0).0;
    expect(Kind::Ste, ssid0, moved, 3, false);
}

fn context(asid: u16, ttb0: u64) -> CdStage1 {
    CdStage1 {
        t0sz: 16,
        tg0: 0,
        walk: (1, 1, 3),
        ips: 5,
        ha: false,
        hd: false,
        stall: false,
        asid,
        aset: true,
        ttb0,
        mair: 0xf404_ff44,
    }
}

#[test]
fn known_context_transitions() {
    let clear = [0; 8];
    let live = cd_stage1(&context(778, 0x8000_0000));
    let other = cd_stage1(&context(1997, 0x8000_0000));
    expect(Kind::Cd, clear, live.0, 2, false);
    expect(Kind::Cd, live.0, clear, 2, false);
    expect(Kind::Cd, live.0, other.0, 1, true);
    let released = cd_quiesced(&live, false).0;
    expect(Kind::Cd, live.0, released, 2, true);
    expect(Kind::Cd, released, live.0, 2, true);
    // To another process: through the quiesced descriptor every write is hitless.
    let next = cd_stage1(&context(5, 0x9000_0000)).0;
    expect(Kind::Cd, live.0, next, 3, false);
    expect(Kind::Cd, released, next, 2, true);
}

/// A failing sync ends the update at once, whatever instant it is.
#[test]
fn a_failed_sync_stops_the_update() {
    let old = ste_stage1(FEATURES, &stage1(S1Dss::Substream0, 0x8000_0000, false, false), 0).0;
    let new = ste_stage2(FEATURES, &stage2(1, 0x4000_0000, false, false)).0;
    let (_, images) = run(Kind::Ste, &old, &new);
    for fail_at in 1..=images.len() {
        let mut recorder = Recorder {
            kind: Kind::Ste,
            old,
            new,
            live: old,
            stores: 0,
            images: Vec::new(),
            fail_at: Some(fail_at),
        };
        assert_eq!(write_entry(&mut recorder, &old, &new), Err(fail_at));
        assert_eq!(recorder.live, images[fail_at - 1]);
    }
}
