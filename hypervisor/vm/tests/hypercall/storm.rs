//! Calls at random, in any order and from two cores at once.

use super::*;

/// Arguments that have a chance to pass some checks.
fn argument(random: &mut Random) -> u64 {
    let page = random.below(BYTES / 4096) * 4096;
    match random.below(12) {
        0 => random.next(),
        1 => 0,
        2 => u64::MAX,
        3 | 4 => 8 * (1 + random.below(3)),
        5 | 6 => random.below(20),
        7 => RAM + page,
        8 => RAM + page + random.below(4096),
        9 => TCR,
        10 => page,
        _ => RAM + BYTES - random.below(128),
    }
}

fn storm(seed: u64, calls: usize) {
    let house =
        house_with(StreamPolicy { ats: seed.is_multiple_of(2), stalls: seed.is_multiple_of(3) });
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    house.ram.0.lock().unwrap().1 = Some(Random(seed | 1));
    for n in 0..calls {
        let function = call::BASE + random.below(u64::from(call::CALLS) + 1) as u32;
        let mut arguments = [0; 6];
        arguments.iter_mut().for_each(|argument_| *argument_ = argument(&mut random));
        if random.below(3) > 0 {
            // Mostly well-formed, so that deep states are reached.
            let device = 8 * (1 + random.below(2));
            let space = random.below(4);
            arguments = match function {
                call::BIND => {
                    let rebind = random.below(2) * BindFlags::REBIND;
                    [device, random.below(8), ROOT + space * 4096, TCR, 0xff, (space + 1) | rebind]
                }
                call::UNBIND => [device, random.below(8), 0, 0, 0, 0],
                call::EXIT | call::INVALIDATE => [space + 1, 0, 0x1000, 0, 0, 0],
                call::CONTEXTS_ENABLE => [device, 3, random.below(3), 0, 0, 0],
                call::STREAM_ENTRY | call::COMMANDS => [device, RAM, random.below(4), 0, 0, 0],
                call::FAULT_RING => [RAM + 0x8000, 4096, 0, 0, 0, 0],
                _ => [device, arguments[1], arguments[2], 0, 0, 0],
            };
            // Frequent calls that tear everything down would hide what lies deeper.
            if function == call::STAGE1_DISABLE && random.below(8) > 0 {
                continue;
            }
        }
        if random.below(16) == 0 {
            house.driver.push_event(raw(0x10, random.next(), random.below(2) == 0));
        }
        let before = house.footprint();
        let (status, results) = house.call(function, &arguments);
        let context = (seed, n, function - call::BASE, arguments);
        if status != Status::Success {
            // Partly done are only those that say so.
            assert_eq!(house.footprint(), before, "{context:x?} {status:?} {results:x?}");
        }
        for (stream, mine) in [(0x10, true), (0x20, true), (0x30, false)] {
            for substream in [None, Some(SubstreamId::new(random.below(8) as u32))] {
                let reach = house.driver.transaction(StreamId::new(stream), substream);
                assert_ne!(reach, Reach::Physical, "{context:x?}");
                if let Reach::Through(cached) = reach {
                    let ours = cached.vmid == 1;
                    assert_eq!(ours, mine, "{context:x?} {cached:?}");
                    let known = cached.root == if mine { 0x9000_0000 } else { 0xa000_0000 }
                        || (mine && (RAM..RAM + BYTES).contains(&cached.root));
                    assert!(known, "{context:x?} {cached:?}");
                }
            }
        }
        let faults = house.driver.core_faults();
        assert!(faults.is_empty(), "{context:x?} {faults:?}");
    }
    // Whatever it did, everything comes back.
    for stream in [0x10, 0x20] {
        let group = house.iommus.group_of(DeviceId::new(stream)).unwrap();
        house.iommus.detach(&group).unwrap();
        house.service.remove_group(&group, true);
    }
    let footprint = house.service.footprint();
    assert_eq!(footprint, ServiceFootprint::default(), "seed {seed}");
    assert_eq!(house.driver.context_tables(), 0, "seed {seed}");
    house.iommus.owners().close(house.owner).unwrap();
}

#[test]
fn no_sequence_of_calls_does_harm() {
    // A seed in the environment replays one run; long mode makes many more.
    if let Some(seed) = std::env::var("PALISADE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return storm(seed, 20_000);
    }
    let long = std::env::var_os("PALISADE_LONG").is_some();
    for seed in 1..=if long { 2000 } else { 12 } {
        storm(seed, if long { 20_000 } else { 1_500 });
    }
}

#[test]
fn two_cores_calling_at_once_leak_nothing() {
    let house = house();
    house.does(call::CONTEXTS_ENABLE, &[8, 4, 2]);
    std::thread::scope(|threads| {
        for core in 0..2u64 {
            let house = &house;
            threads.spawn(move || {
                for round in 0..500u64 {
                    let (asid, substream) = (1 + core * 2 + round % 2, core);
                    let root = ROOT + asid * 4096;
                    let bind = [8, substream, root, TCR, 0xff, asid];
                    assert_eq!(house.does(call::BIND, &bind), Status::Success);
                    assert_eq!(root_of(house.reach(0x10, substream as u32)), Some(root));
                    if round.is_multiple_of(3) {
                        assert_eq!(house.does(call::EXIT, &[asid]), Status::Success);
                        assert_eq!(house.reach(0x10, substream as u32), Reach::Quiet);
                    }
                    assert_eq!(house.does(call::UNBIND, &[8, substream]), Status::Success);
                }
            });
        }
    });
    let footprint = house.service.footprint();
    assert_eq!((footprint.bonds, footprint.processes, footprint.space.asids), (0, 0, 0));
    assert!(house.driver.core_faults().is_empty());
}
