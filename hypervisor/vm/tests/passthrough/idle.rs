//! What a device is let do before its stream is seen to abort, and what must be idle before it is free.

use super::*;

#[test]
fn a_device_translates_itself_only_where_words_and_smmu_agree() {
    let whole = IommuDriver::capabilities(&*FakeDriver::new());
    let able = || vec![FakeFunction::root_port(1, vec![nvme().ats()])];
    let trusted = || Device { ats_trusted: true, ..device(NVME, 8) };
    for (offered, root, wanted, given) in [
        (true, able(), trusted(), true),
        (true, able(), device(NVME, 8), false),
        (false, able(), trusted(), false),
        (true, ports(), trusted(), false),
    ] {
        let driver = FakeDriver::with(Capabilities { ats: offered, ..whole });
        let rig = rig(root, Some(driver));
        let (_, domain) = rig.domain(0);
        let request = Request { vm: 0, devices: &[wanted], present: &[], no_isolation: false };
        let assigned = rig.book.assign(&request, &domain, &rig.iommus, &*rig.clock).unwrap();
        assert_eq!((assigned[0].policy.ats, translates(&rig, NVME)), (given, given));
        assert!(!assigned[0].policy.stalls);
        rig.driver.take_calls();
        assert_eq!(rig.take_back(0), [(NVME, Condition::Free)]);
        assert!(!translates(&rig, NVME));
        let told = |call: &Call| matches!(call, Call::Invalidate(Invalidation::Device { .. }));
        assert_eq!(rig.driver.take_calls().iter().any(told), given, "its own TLB forgets");
    }
}

/// What each device's bus mastering was switched to since `before`.
fn mastering(rig: &Rig, before: usize, bdf: u16) -> Vec<bool> {
    let switched = |(_, event): &(_, Event)| match *event {
        Event::Master(device, on) if device == bdf => Some(on),
        _ => None,
    };
    rig.bus.events().iter().skip(before).filter_map(switched).collect()
}

#[test]
fn nothing_drains_but_into_an_abort() {
    let settling = Device { settle_ms: 200, ..device(EDU, 8) };
    // Without an SMMU nothing aborts; with one, it must have confirmed.
    for smmu in [false, true] {
        let rig = rig(ports(), smmu.then(FakeDriver::new));
        let (_, domain) = rig.domain(0);
        let request = Request { vm: 0, devices: &[settling], present: &[], no_isolation: !smmu };
        let before = rig.bus.events().len();
        rig.book.assign(&request, &domain, &rig.iommus, &*rig.clock).expect("assigned");
        assert_eq!(mastering(&rig, before, EDU).contains(&true), smmu, "before its first owner");
        rig.master(EDU, true);
        rig.master(EDU, false);
        rig.driver.fail_after(0, DriverError::Timeout(StreamId::new(EDU.into())));
        let before = rig.bus.events().len();
        let dead = if smmu { Condition::Dead } else { Condition::Quarantined };
        assert_eq!(rig.take_back(0), [(EDU, dead)]);
        assert!(!mastering(&rig, before, EDU).contains(&true), "with an SMMU: {smmu}");
    }
}

#[test]
fn a_device_that_is_not_reset_stops_to_translate_itself_all_the_same() {
    let bdf = 0x0020;
    let rig = rig(vec![edu_at(4).express(0, false).ats()], Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let trusted = Device { ats_trusted: true, no_reset: true, ..device(bdf, 8) };
    rig.assign(0, &domain, &[trusted]).expect("assigned");
    assert!(translates(&rig, bdf));
    assert_eq!(rig.take_back(0), [(bdf, Condition::Free)]);
    assert_eq!(rig.bus.resets(bdf), 0);
    assert!(!translates(&rig, bdf));
}

#[test]
fn one_trusted_member_does_not_give_ats_to_all() {
    let pair = || {
        let second = FakeFunction::endpoint(0, 1, 0x1111_2222).express(0, true).ats();
        vec![FakeFunction::root_port(
            1,
            vec![nvme().multi_function().ats(), second.multi_function()],
        )]
    };
    let trust = |bdf, guest, ats_trusted| Device { ats_trusted, ..device(bdf, guest) };
    for (first, second) in [(true, true), (true, false), (false, true)] {
        let rig = rig(pair(), Some(FakeDriver::new()));
        let (_, domain) = rig.domain(0);
        let devices = [trust(0x0100, 8, first), trust(0x0101, 9, second)];
        rig.assign(0, &domain, &devices).expect("assigned");
        let both = first && second;
        assert_eq!((translates(&rig, 0x0100), translates(&rig, 0x0101)), (both, both));
        rig.take_back(0);
    }
}

/// One reset of the bus takes the ATS of both.
#[test]
fn streams_follow_all_devices_that_one_reset_reaches() {
    let both = || {
        let one = |number| FakeFunction::endpoint(0, number, 0x0010_1b36).express(0, false).ats();
        vec![FakeFunction::root_port(1, vec![one(0).multi_function(), one(1).multi_function()])]
    };
    let rig = rig(both(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let trusted = |bdf, guest| Device { ats_trusted: true, ..device(bdf, guest) };
    rig.assign(0, &domain, &[trusted(0x0100, 8), trusted(0x0101, 9)]).expect("assigned");
    let resets = rig.bus.resets(0x0101);
    rig.book.reset(0, &rig.iommus, &*rig.clock).expect("as they were");
    assert!(rig.bus.resets(0x0101) > resets);
    assert!(translates(&rig, 0x0100) && translates(&rig, 0x0101));
    assert!(!rig.disagreed.load(Ordering::Relaxed), "device and stream did not agree about ATS");
    // What the SMMU does not confirm ends the VM, with nothing reset and nobody translating.
    let resets = rig.bus.resets(0x0101);
    rig.driver.fail_after(0, DriverError::Timeout(StreamId::new(0x0100)));
    let refusal = rig.book.reset(0, &rig.iommus, &*rig.clock).expect_err("the SMMU is silent");
    assert!(matches!(refusal, Refusal::Iommu { device, .. } if device == at(0x0100)), "{refusal}");
    assert_eq!((rig.bus.resets(0x0101), rig.state(0x0101)), (resets, StreamState::Abort));
    let group = rig.iommus.group_of(DeviceId::new(0x0100)).expect("known");
    assert_eq!(group.condition(), Condition::Dead);
}

#[test]
fn a_group_is_free_only_when_all_of_it_is_idle() {
    let pair = vec![
        nvme().multi_function(),
        FakeFunction::endpoint(0, 1, 0x1111_2222).express(0, true).multi_function(),
    ];
    let rig = rig(vec![FakeFunction::root_port(1, pair)], Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    rig.assign(0, &domain, &[device(0x0100, 8), device(0x0101, 9)]).expect("assigned");
    // The second does not come back from its reset.
    rig.bus.poke(0x0101, 2, 0x66);
    rig.take_back(0);
    let group = rig.iommus.group_of(DeviceId::new(0x0100)).expect("known");
    assert_eq!(group.condition(), Condition::Dead);
    let conditions: Vec<Condition> = rig.book.rows().iter().map(|row| row.condition).collect();
    assert_eq!(conditions, [Condition::Dead, Condition::Dead], "it moves whole or not at all");
    let (_, other) = rig.domain(1);
    assert!(rig.assign(1, &other, &[device(0x0100, 8), device(0x0101, 9)]).is_err());
}

/// Whoever buried a group elsewhere, or could not prove it idle, has said so in the IOMMU core.
#[test]
fn a_group_that_the_core_does_not_free_is_refused() {
    for condition in [Condition::Dead, Condition::Quarantined] {
        let rig = rig(ports(), Some(FakeDriver::new()));
        let (_, domain) = rig.domain(0);
        let group = rig.iommus.group_of(DeviceId::new(NVME.into())).expect("known");
        if condition == Condition::Dead {
            rig.iommus.bury(&group);
        } else {
            rig.iommus.assign(&group, &domain, Default::default()).expect("free");
            rig.iommus.detach(&group).expect("assigned");
        }
        assert_eq!(group.condition(), condition);
        let refusal = rig.assign(0, &domain, &[device(NVME, 8)]).expect_err("refused");
        let wanted = match condition {
            Condition::Dead => Refusal::Dead(at(NVME)),
            _ => Refusal::Quarantined(at(NVME)),
        };
        assert_eq!(refusal, wanted);
        assert_eq!(rig.bus.resets(NVME), 0, "untouched");
    }
}

/// A reset from above reaches everything on the bus, whatever keeps its functions apart.
#[test]
fn a_reset_that_reaches_somebody_elses_device_is_refused() {
    let function = |number, id| {
        let plain = FakeFunction::endpoint(0, number, id).express(0, false);
        plain.multi_function().acs(acs::ISOLATING_FUNCTION)
    };
    let pair = vec![function(0, 0x1111_1234), function(1, 0x2222_1234)];
    let rig = rig(vec![FakeFunction::root_port(1, pair)], Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let owned = Device { no_reset: true, ..device(0x0100, 8) };
    rig.assign(0, &domain, &[owned]).expect("on its own");
    let refused = rig.book.reset_unowned(at(0x0101), &rig.iommus, &*rig.clock);
    assert!(matches!(refused, Err(Refusal::NoReset(_))), "{refused:?}");
    assert_eq!((rig.bus.resets(0x0100), rig.bus.resets(0x0101)), (0, 0));
}

#[test]
fn a_time_out_of_the_smmu_never_looks_like_success() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let settling = Device { settle_ms: 200, ..device(EDU, 8) };
    rig.assign(0, &domain, &[settling]).expect("assigned");
    rig.master(EDU, true);
    rig.driver.fail_after(0, DriverError::Timeout(StreamId::new(EDU.into())));
    let before = rig.bus.events().len();
    assert_eq!(rig.take_back(0), [(EDU, Condition::Dead)]);
    let events = rig.bus.events();
    assert!(
        !events[before..].iter().any(|(_, event)| *event == Event::Master(EDU, true)),
        "nothing is let go where the abort is not confirmed"
    );
    let (_, other) = rig.domain(1);
    assert_eq!(rig.assign(1, &other, &[settling]), Err(Refusal::Dead(at(EDU))));
}

#[test]
fn every_failure_on_the_way_leaves_no_owner() {
    for call in 0..12 {
        let rig = rig(ports(), Some(FakeDriver::new()));
        let (_, domain) = rig.domain(0);
        rig.driver.fail_after(call, DriverError::NoMemory);
        let answer = rig.assign(0, &domain, &[device(NVME, 8), device(EDU, 16)]);
        if rig.driver.disarm() {
            assert!(answer.is_ok(), "nothing failed");
            continue;
        }
        assert!(answer.is_err(), "call {call}");
        assert_eq!((rig.state(NVME), rig.state(EDU)), (StreamState::Abort, StreamState::Abort));
        assert!(rig.book.rows().iter().all(|row| row.owner.is_none()));
    }
}
