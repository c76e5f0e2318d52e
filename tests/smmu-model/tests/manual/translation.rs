//! Chapters 3.3, 5, 7.3 and 15: what a transaction becomes.

use crate::bench::{Bench, S1_RO, S1_RW, S2_RO, S2_RW, TABLES, cd, nested, stage1, stage2};
use palisade_smmu_model::{
    Access, Class, Event, EventKind, Features, Injection, Outcome, Request, StallModel,
};

fn read(bench: &mut Bench, stream: u32, address: u64) -> Outcome {
    bench.model.transaction(stream, None, address, Access::Read)
}

fn kind(outcome: Outcome) -> EventKind {
    match outcome {
        Outcome::Aborted { event: Some(event) } => event.kind,
        other => panic!("expected a recorded abort, got {other:?}"),
    }
}

fn bench(seed: u64) -> Bench {
    Bench::new(Features::default(), seed)
}

#[test]
fn an_abort_ste_is_silent_and_an_invalid_one_is_not() {
    let mut bench = bench(1);
    assert_eq!(read(&mut bench, 3, 0x1000), Outcome::Aborted { event: None });
    bench.change_ste(3, [0; 8]);
    assert_eq!(kind(read(&mut bench, 3, 0x1000)), EventKind::BadSte);
    assert_eq!(kind(read(&mut bench, 64, 0x1000)), EventKind::BadStreamId);
    let events = [bench.event(), bench.event(), bench.event()];
    let kinds = events.map(|event| event.map(|event| event.kind));
    assert_eq!(kinds, [Some(EventKind::BadSte), Some(EventKind::BadStreamId), None]);
}

#[test]
fn stage2_translates_and_checks() {
    let mut bench = bench(2);
    let root = bench.table();
    bench.map(root, 0x40_0000, 0x77_7000, S2_RW);
    bench.map(root, 0x40_1000, 0x77_8000, S2_RO);
    bench.map(root, 0x40_2000, 0x77_9000, S2_RW & !(1 << 10));
    bench.map(root, 0x40_3000, 1 << 45, S2_RW);
    bench.change_ste(5, stage2(9, root));
    bench.memory.set(0x77_7008, 0xabcd);
    assert_eq!(read(&mut bench, 5, 0x40_0008), Outcome::Done { pa: 0x77_7008, data: 0xabcd });
    let write = bench.model.transaction(5, None, 0x40_1000, Access::Write(1));
    let Outcome::Aborted { event: Some(event) } = write else { panic!("{write:?}") };
    assert_eq!(event.kind, EventKind::Permission);
    assert_eq!((event.stage2, event.class, event.read), (true, Class::Input, false));
    assert_eq!(event.second_address, 0x40_1000);
    assert_eq!(kind(read(&mut bench, 5, 0x40_2000)), EventKind::AccessFlag);
    assert_eq!(kind(read(&mut bench, 5, 0x40_3000)), EventKind::AddressSize);
    assert_eq!(kind(read(&mut bench, 5, 0x40_4000)), EventKind::Translation);
    assert_eq!(kind(read(&mut bench, 5, 1 << 39)), EventKind::Translation);
    let sub = bench.model.transaction(5, Some(1), 0x40_0000, Access::Read);
    assert_eq!(kind(sub), EventKind::BadSubstreamId);
    let queued = bench.event().map(|event| Event { second_address: 0x40_1000, ..event });
    assert_eq!(queued, Some(event));
    bench.clean();
}

#[test]
fn substreams_and_s1dss() {
    for (dss, without, zero) in [
        (0, Err(EventKind::StreamDisabled), Ok(0x9000)),
        (1, Ok(0x1000), Ok(0x9000)),
        (2, Ok(0x9000), Err(EventKind::StreamDisabled)),
    ] {
        let mut bench = bench(3 + dss);
        let (cds, a, b) = (bench.table(), bench.table(), bench.table());
        bench.map(a, 0x1000, 0x9000, S1_RW);
        bench.map(b, 0x1000, 0xb000, S1_RW);
        bench.set_words(cds, &cd(1, a));
        bench.set_words(cds + 64, &cd(2, b));
        bench.change_ste(4, stage1(1, cds, 2, dss));
        let mut go = |substream| match bench.model.transaction(4, substream, 0x1000, Access::Read) {
            Outcome::Done { pa, .. } => Ok(pa),
            other => Err(kind(other)),
        };
        assert_eq!(go(None), without);
        assert_eq!(go(Some(0)), zero);
        assert_eq!(go(Some(1)), Ok(0xb000));
        assert_eq!(go(Some(2)), Err(EventKind::BadCd));
        assert_eq!(go(Some(4)), Err(EventKind::BadSubstreamId));
        bench.clean();
    }
}

#[test]
fn two_level_cd_tables() {
    let mut bench = bench(20);
    let (level1, a) = (bench.table(), bench.table());
    let leaf = 0x400_0000;
    bench.map(a, 0x1000, 0x9000, S1_RW);
    bench.set_words(level1 + 8, &[leaf | 1]);
    bench.set_words(leaf + 64 * 5, &cd(1, a));
    let mut ste = stage1(1, level1, 12, 0);
    ste[0] |= 2 << 4;
    bench.change_ste(4, ste);
    let reached = bench.model.transaction(4, Some(1024 + 5), 0x1000, Access::Read);
    assert_eq!(reached, Outcome::Done { pa: 0x9000, data: 0 });
    let missing = bench.model.transaction(4, Some(5), 0x1000, Access::Read);
    assert_eq!(kind(missing), EventKind::BadSubstreamId);
    bench.clean();
}

/// A nested stream of which every structure lies in IPA space at PA - 0x1000_0000.
fn nested_bench(seed: u64) -> (Bench, u64, u64) {
    let mut bench = bench(seed);
    let (s2, s1, cds) = (bench.table(), bench.table(), bench.table());
    // Stage 1 tables hold IPAs: build them by hand, in one gigabyte.
    let (l2, l3) = (bench.table(), bench.table());
    let ipa = |pa: u64| pa + 0x1000_0000;
    bench.memory.set(s1, ipa(l2) | 3);
    bench.memory.set(l2, ipa(l3) | 3);
    bench.memory.set(l3 + 8, 0x2000_5000 | S1_RW | 3);
    bench.memory.set(l3 + 16, 0x2000_6000 | S1_RO | 3);
    for pa in [s1, l2, l3, cds] {
        bench.map(s2, ipa(pa), pa, S2_RO);
    }
    bench.map(s2, 0x2000_5000, 0x55_5000, S2_RW);
    bench.set_words(cds, &cd(3, ipa(s1)));
    bench.change_ste(6, nested(4, ipa(cds), 0, s2));
    (bench, s2, ipa(l3))
}

#[test]
fn nested_translation_goes_through_both() {
    let (mut bench, s2, l3) = nested_bench(30);
    assert_eq!(read(&mut bench, 6, 0x1008), Outcome::Done { pa: 0x55_5008, data: 0 });
    let Outcome::Aborted { event: Some(event) } = read(&mut bench, 6, 0x2008) else { panic!() };
    assert_eq!((event.kind, event.stage2), (EventKind::Translation, true));
    assert_eq!((event.class, event.second_address), (Class::Input, 0x2000_6008));
    let write = bench.model.transaction(6, None, 0x2000, Access::Write(0));
    let Outcome::Aborted { event: Some(event) } = write else { panic!() };
    assert_eq!((event.kind, event.stage2), (EventKind::Permission, false));
    bench.unmap(s2, l3);
    bench.command([0x28 | 4 << 32, 0]);
    bench.sync();
    let Outcome::Aborted { event: Some(event) } = read(&mut bench, 6, 0x1008) else { panic!() };
    assert_eq!((event.kind, event.class), (EventKind::Translation, Class::Table));
    assert_eq!(event.second_address, l3 + 8);
    bench.clean();
}

#[test]
fn a_cd_out_of_stage2_faults_with_class_cd() {
    let (mut bench, s2, _) = nested_bench(31);
    bench.change_ste(7, nested(4, 0x3000_0000, 0, s2));
    let Outcome::Aborted { event: Some(event) } = read(&mut bench, 7, 0x1000) else { panic!() };
    assert_eq!((event.kind, event.class), (EventKind::Translation, Class::Cd));
    assert_eq!(event.second_address, 0x3000_0000);
}

#[test]
fn illegal_stes() {
    let good = stage2(9, 0x40_0000);
    let with = |word: usize, clear: u64, set: u64| {
        let mut words = good;
        words[word] = words[word] & !clear | set;
        words
    };
    let cases = [
        with(2, 1 << 51, 0),
        with(2, 0, 1 << 52),
        with(2, 0, 3 << 46),
        with(2, 0x3f << 32, 40 << 32),
        with(2, 0x3f << 32, 19 << 32),
        with(2, 3 << 38, 3 << 38),
        with(2, 3 << 38, 0),
        with(3, u64::MAX, 1 << 44),
        with(2, 0, 1 << 56),
        with(1, 0, 2 << 28),
    ];
    for (i, words) in cases.into_iter().enumerate() {
        let mut bench = bench(40 + i as u64);
        bench.change_ste(5, words);
        assert_eq!(kind(read(&mut bench, 5, 0)), EventKind::BadSte, "case {i}");
    }
    let minimal = |words| {
        let mut bench = Bench::new(Features::minimal(), 60);
        bench.change_ste(5, words);
        kind(read(&mut bench, 5, 0))
    };
    assert_eq!(minimal(stage2(0x100, 0x40_0000)), EventKind::BadSte);
    assert_eq!(minimal(with(2, 7 << 48, 2 << 48 | 1 << 57)), EventKind::BadSte);
}

#[test]
fn illegal_cds() {
    let cases = [
        cd(1, 0x40_0000).map(|_| 0),
        [cd(1, 0)[0] & !(1 << 41), 0x40_0000, 0, 0, 0, 0, 0, 0],
        [cd(1, 0)[0] & !0x3f | 15, 0x40_0000, 0, 0, 0, 0, 0, 0],
        [cd(1, 0)[0] | 3 << 6, 0x40_0000, 0, 0, 0, 0, 0, 0],
        [cd(1, 0)[0] | 1 << 15, 0x40_0000, 0, 0, 0, 0, 0, 0],
        [cd(1, 0)[0] | 1 << 43, 0x40_0000, 0, 0, 0, 0, 0, 0],
        [cd(1, 0)[0], 1 << 44, 0, 0, 0, 0, 0, 0],
        // TTB1 enabled with a reserved granule.
        [cd(1, 0)[0] & !(1 << 30) | 25 << 16, 0x40_0000, 0, 0, 0, 0, 0, 0],
    ];
    for (i, words) in cases.into_iter().enumerate() {
        let mut bench = bench(70 + i as u64);
        let cds = bench.table();
        bench.set_words(cds, &words);
        bench.change_ste(5, stage1(1, cds, 0, 0));
        assert_eq!(kind(read(&mut bench, 5, 0)), EventKind::BadCd, "case {i}");
    }
    for (model, stalling) in [(StallModel::TerminateOnly, true), (StallModel::StallOnly, false)] {
        let mut bench = Bench::new(Features { stall: model, ..Features::default() }, 80);
        let cds = bench.table();
        let mut words = cd(1, 0x40_0000);
        words[0] |= u64::from(stalling) << 44;
        bench.set_words(cds, &words);
        bench.change_ste(5, stage1(1, cds, 0, 0));
        assert_eq!(kind(read(&mut bench, 5, 0)), EventKind::BadCd);
    }
}

/// 5.5: A, R and S.
#[test]
fn fault_policy() {
    for (a, r, s) in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (1, 0, 1)] {
        let mut bench = bench(90);
        let (cds, root) = (bench.table(), bench.table());
        let mut words = cd(1, root);
        words[0] = words[0] & !(7 << 44) | s << 44 | r << 45 | a << 46;
        bench.set_words(cds, &words);
        bench.change_ste(5, stage1(1, cds, 0, 0));
        let outcome = read(&mut bench, 5, 0x1000);
        match (a, r, s) {
            (_, _, 1) => assert!(matches!(outcome, Outcome::Stalled { .. })),
            (0, r, _) => {
                let Outcome::Ignored { event } = outcome else { panic!("{outcome:?}") };
                assert_eq!(event.is_some(), r == 1);
            }
            (_, r, _) => {
                let Outcome::Aborted { event } = outcome else { panic!("{outcome:?}") };
                assert_eq!(event.is_some(), r == 1);
            }
        }
        assert_eq!(bench.event().is_some(), r == 1 || s == 1);
    }
}

#[test]
fn stall_retry_and_terminate() {
    let mut bench = bench(91);
    let root = bench.table();
    let mut ste = stage2(9, root);
    ste[2] |= 1 << 57;
    bench.map(root, 0x8000, 0, 0);
    bench.change_ste(5, ste);
    let Outcome::Stalled { tag, id } = read(&mut bench, 5, 0x1000) else { panic!() };
    let event = bench.event().expect("a stall is always recorded");
    assert_eq!(event.stall, Some(tag));
    bench.map(root, 0x1000, 0x66_6000, S2_RW);
    bench.command([0x44 | 1 << 12 | 5 << 32, u64::from(tag)]);
    bench.model.run(200);
    let done = bench.model.take_completed();
    assert_eq!(done[0].0, id);
    assert_eq!(done[0].2, Outcome::Done { pa: 0x66_6000, data: 0 });
    let Outcome::Stalled { tag, .. } = read(&mut bench, 5, 0x2000) else { panic!() };
    bench.command([0x44 | 5 << 32, u64::from(tag)]);
    bench.model.run(200);
    assert_eq!(bench.model.take_completed()[0].2, Outcome::Ignored { event: None });
    let Outcome::Stalled { .. } = read(&mut bench, 5, 0x3000) else { panic!() };
    bench.command([0x45 | 5 << 32, 0]);
    bench.model.run(200);
    assert_eq!(bench.model.take_completed()[0].2, Outcome::Aborted { event: None });
    bench.clean();
}

#[test]
fn privilege_and_execution() {
    let mut bench = bench(92);
    let (cds, root) = (bench.table(), bench.table());
    // Privileged only; then unprivileged execute-never.
    bench.map(root, 0x1000, 0x9000, S1_RW & !(1 << 6));
    bench.map(root, 0x2000, 0xa000, S1_RO | 1 << 54);
    bench.set_words(cds, &cd(1, root));
    bench.change_ste(5, stage1(1, cds, 0, 0));
    assert_eq!(kind(read(&mut bench, 5, 0x1000)), EventKind::Permission);
    let request = Request::new(5, None, 0x1000, Access::Read);
    let privileged = bench.model.request(Request { privileged: true, ..request });
    assert!(matches!(privileged, Outcome::Done { .. }));
    let request = Request { address: 0x2000, instruction: true, ..request };
    assert_eq!(kind(bench.model.request(request)), EventKind::Permission);
}

/// 7.4: overflow toggles OVFLG once, and acknowledging re-arms it.
#[test]
fn event_overflow() {
    let mut bench = bench(93);
    bench.change_ste(3, [0; 8]);
    for i in 0..20 {
        read(&mut bench, 3, i << 12);
        bench.model.run(4);
    }
    bench.model.run(100);
    assert_eq!(bench.read32(0x1_00a8) >> 31, 1);
    let mut seen = 0;
    while bench.event().is_some() {
        seen += 1;
    }
    assert_eq!(seen, 8);
    let cons = bench.read32(0x1_00ac);
    bench.write32(0x1_00ac, cons | 1 << 31);
    read(&mut bench, 3, 0);
    assert!(bench.event().is_some());
    bench.clean();
}

/// 3.13: with HTTU the SMMU sets AF and the dirty state itself.
#[test]
fn hardware_updates() {
    let mut bench = Bench::new(Features { httu: 2, ..Features::default() }, 94);
    let root = bench.table();
    bench.map(root, 0x1000, 0x9000, S2_RO & !(1 << 10) | 1 << 51);
    let mut ste = stage2(9, root);
    ste[2] |= 3 << 55;
    bench.change_ste(5, ste);
    assert!(matches!(read(&mut bench, 5, 0x1000), Outcome::Done { .. }));
    let write = bench.model.transaction(5, None, 0x1000, Access::Write(1));
    assert!(matches!(write, Outcome::Done { .. }));
}

#[test]
fn an_abort_of_a_stage1_descriptor_is_of_stage1_behind_stage2_too() {
    let mut bench = bench(20);
    let (two, one) = (bench.table(), bench.table());
    let cds = bench.table();
    bench.map(one, 0x1000, 0x9000, S1_RW);
    // Stage 2 is the identity for the CD and stage 1's tables.
    for page in (0..0x40_0000).step_by(0x1000) {
        bench.map(two, TABLES + page, TABLES + page, S2_RW);
    }
    bench.set_words(cds, &cd(3, one));
    bench.change_ste(5, nested(9, cds, 0, two));
    bench.model.inject(Injection::AbortPage(one));
    let outcome = read(&mut bench, 5, 0x1000);
    let Outcome::Aborted { event: Some(event) } = outcome else { panic!("{outcome:?}") };
    assert_eq!((event.kind, event.class), (EventKind::WalkAbort, Class::Table));
    assert_eq!((event.stage2, event.second_address), (false, one));
}
