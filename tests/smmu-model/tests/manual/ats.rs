//! 3.9, 8 and 12.3: ATS, page requests, service failure.

use crate::bench::{Bench, PRIQ, S2_RW, stage2};
use palisade_smmu_model::{
    Access, AtsReply, Event, EventKind, Features, Injection, Interrupt, Outcome, PageRequest,
    Request,
};

fn full_ats(vmid: u64, root: u64) -> [u64; 8] {
    let mut words = stage2(vmid, root);
    words[1] |= 1 << 28;
    words
}

fn event_kind(outcome: Outcome) -> Option<EventKind> {
    match outcome {
        Outcome::Aborted { event } => event.map(|event: Event| event.kind),
        other => panic!("{other:?}"),
    }
}

#[test]
fn translated_traffic_is_checked_only_with_atschk() {
    let mut bench = Bench::new(Features::default(), 1);
    let root = bench.table();
    bench.change_ste(5, stage2(9, root));
    let raw = Request::new(5, None, 0x123_4000, Access::Write(1));
    let raw = Request { translated: true, ..raw };
    assert_eq!(event_kind(bench.model.request(raw)), Some(EventKind::TranslationForbidden));
    assert_eq!(event_kind(bench.model.request(Request { stream: 6, ..raw })), None);
    bench.cr0(0xf);
    for stream in [5, 6] {
        let outcome = bench.model.request(Request { stream, ..raw });
        assert_eq!(outcome, Outcome::Done { pa: 0x123_4000, data: 1 });
    }
}

#[test]
fn translation_requests() {
    let mut bench = Bench::new(Features::default(), 2);
    let root = bench.table();
    bench.map(root, 0x1000, 0x9000, S2_RW);
    assert_eq!(bench.model.ats_request(5, None, 0x1000, true), AtsReply::Unsupported);
    bench.change_ste(5, stage2(9, root));
    assert_eq!(bench.model.ats_request(5, None, 0x1000, true), AtsReply::Unsupported);
    assert_eq!(bench.event().map(|event| event.kind), Some(EventKind::BadAtsRequest));
    bench.change_ste(5, full_ats(9, root));
    assert_eq!(
        bench.model.ats_request(5, None, 0x1000, true),
        AtsReply::Success { address: 0x9000, span: 0x1000, read: true, write: true }
    );
    assert_eq!(
        bench.model.ats_request(5, None, 0x2000, true),
        AtsReply::Success { address: 0, span: 0x1000, read: false, write: false }
    );
    bench.change_ste(5, [0; 8]);
    assert_eq!(bench.model.ats_request(5, None, 0x1000, true), AtsReply::CompleterAbort);
}

#[test]
fn a_device_tlb_needs_its_own_invalidation() {
    let mut bench = Bench::new(Features::default(), 3);
    let root = bench.table();
    bench.map(root, 0x1000, 0x9000, S2_RW);
    bench.change_ste(5, full_ats(9, root));
    let go = |bench: &mut Bench| bench.model.ats_access(5, None, 0x1008, Access::Write(3));
    assert_eq!(go(&mut bench), Outcome::Done { pa: 0x9008, data: 3 });
    bench.unmap(root, 0x1000);
    bench.command([0x28 | 9 << 32, 0]);
    bench.sync();
    assert_eq!(go(&mut bench), Outcome::Done { pa: 0x9008, data: 3 });
    bench.command([0x40 | 6 << 32, 52]);
    bench.command([0x40 | 5 << 32, 0x4000]);
    bench.sync();
    assert_eq!(go(&mut bench), Outcome::Done { pa: 0x9008, data: 3 });
    // Pages 0 to 3: an aligned span of 2^2.
    bench.command([0x40 | 5 << 32, 0x2000 | 2]);
    bench.sync();
    assert_eq!(go(&mut bench), Outcome::Aborted { event: None });
    bench.clean();
}

#[test]
fn page_requests_queue_overflow_and_are_answered() {
    let mut bench = Bench::new(Features::default(), 4);
    bench.model.take_interrupts();
    let request = PageRequest {
        stream: 5,
        substream: None,
        address: 0x7000,
        group: 3,
        last: true,
        read: true,
        write: false,
    };
    bench.model.page_request(request);
    assert_eq!(bench.model.take_interrupts(), [Interrupt::PriQueue]);
    assert_eq!(bench.memory.get(PRIQ), 5 | 1 << 60 | 1 << 62);
    assert_eq!(bench.memory.get(PRIQ + 8), 0x7000 | 3);
    for _ in 0..3 {
        bench.model.page_request(request);
    }
    assert_eq!(bench.model.take_page_responses(), []);
    bench.model.page_request(request);
    let responses = bench.model.take_page_responses();
    assert_eq!((responses[0].code, responses[0].automatic), (0, true));
    assert_eq!(bench.read32(0x1_00c8) >> 31, 1);
    bench.command([0x41 | 5 << 32, 3 | 1 << 12]);
    let responses = bench.model.take_page_responses();
    assert_eq!((responses[0].code, responses[0].automatic), (1, false));
}

#[test]
fn service_failure_stops_everything() {
    let mut bench = Bench::new(Features::default(), 5);
    let root = bench.table();
    bench.map(root, 0x1000, 0x9000, S2_RW);
    bench.change_ste(5, stage2(9, root));
    bench.model.take_interrupts();
    bench.model.inject(Injection::ServiceFailure);
    assert_eq!(bench.model.take_interrupts(), [Interrupt::GlobalError]);
    assert_eq!(bench.read32(0x60), 1 << 8);
    let outcome = bench.model.transaction(5, None, 0x1000, Access::Read);
    assert_eq!(outcome, Outcome::Aborted { event: None });
    let cons = bench.read32(0x9c);
    bench.publish([0x46, 0]);
    bench.model.run(200);
    assert_eq!(bench.read32(0x9c), cons);
}
