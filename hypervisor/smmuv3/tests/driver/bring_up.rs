//! Bring-up and take-over: the order of register writes is the safety argument.

use std::sync::Arc;

use crate::fake::{Fake, QEMU, bare, bench, options, stage_two, stream};
use palisade_iommu::{
    DeviceId, DeviceInfo, DriverError, IommuDriver, Iommus, Registration, StreamPolicy, StreamState,
};
use palisade_smmuv3::{BringUpError, IdRegisters, Smmu, Unsupported};

const GBPA: u64 = 0x44;
const CR0: u64 = 0x20;

fn writes(fake: &crate::fake::Fake) -> Vec<(u64, u64)> {
    let state = fake.state();
    state.accesses.iter().filter(|access| access.0).map(|&(_, at, value)| (at, value)).collect()
}

/// GBPA with ABORT and Update in one store is the first write of all.
#[test]
fn abort_by_default_comes_first() {
    let bare = bare(QEMU);
    let fake = bare.fake.clone();
    let smmu = Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options()).unwrap();
    assert_eq!(writes(&fake)[0], (GBPA, 1 << 31 | 1 << 20));
    assert!(smmu.aborts_by_default());
}

/// The order of §3.11 and §6.3.9: control and tables before queues, invalidation before SMMUEN.
#[test]
fn order_of_registers() {
    let bare = bare(QEMU);
    let fake = bare.fake.clone();
    let _smmu = Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options()).unwrap();
    let order: Vec<u64> = writes(&fake).iter().map(|write| write.0).collect();
    let at = |offset: u64| order.iter().position(|&seen| seen == offset).unwrap();
    for pair in [GBPA, 0x28, 0x2c, 0x80, 0x88, 0x90, 0xa0].windows(2) {
        assert!(at(pair[0]) < at(pair[1]), "{:#x} before {:#x}", pair[0], pair[1]);
    }
    // Every change of CR0, in order: nothing, the queues one by one, the SMMU last.
    let enables: Vec<u64> =
        writes(&fake).iter().filter(|write| write.0 == CR0).map(|write| write.1).collect();
    assert_eq!(enables, [0, 0, 0b1000, 0b1100, 0b1101]);
    let opcodes: Vec<u8> = fake.state().commands.iter().map(|command| command[0] as u8).collect();
    assert_eq!(opcodes, [0x04, 0x46, 0x30, 0x46], "no EL2 command without IDR0.HYP");
    // The stream table's size and shape: two levels, split 8, 16 bits.
    assert_eq!(fake.state().get(0x88), 1 << 16 | 8 << 6 | 16);
}

/// Memory attributes of tables and queues (§6.3.11): Inner Shareable, Write-Back. CR2 (§6.3.12):
/// private TLB maintenance, StreamIDs out of range recorded, no E2H. Messages only by wire (§3.18).
#[test]
fn values_of_registers() {
    let bare = bare(IdRegisters { idr0: QEMU.idr0 | 1 << 13, ..QEMU });
    let fake = bare.fake.clone();
    // Firmware had messages sent somewhere.
    for register in [0x68, 0xb0] {
        fake.state().set(register, 0x4000_0000);
    }
    let _smmu = Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options()).unwrap();
    let state = fake.state();
    let attributes = 0b11 << 4 | 0b01 << 2 | 0b01;
    assert_eq!(state.get(0x28), attributes << 6 | attributes);
    assert_eq!(state.get(0x2c), 0b110);
    assert_eq!((state.get(0x68), state.get(0xb0)), (0, 0));
    assert_eq!(state.get(0x50), 0b101);
    // The allocation hint, and sizes beside the addresses.
    for (base, log2) in [(0x90, 8), (0xa0, 10)] {
        assert_eq!((state.get(base) >> 62, state.get(base) & 0x1f), (1, log2), "{base:#x}");
    }
}

/// Errors that firmware left are acknowledged: a new one is seen (§7.5).
#[test]
fn stale_errors_are_acknowledged() {
    let bare = bare(QEMU);
    let fake = bare.fake.clone();
    fake.state().set(0x60, 0b101);
    let smmu = Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options()).unwrap();
    assert_eq!(fake.state().get(0x64), 0b101);
    assert!(!smmu.check_global_errors());
    fake.state().set(0x60, 0b001);
    assert!(smmu.check_global_errors(), "EVENTQ_ABT_ERR toggled");
}

/// With HYP, EL2's translations go too; with ATS, ATSCHK is set before SMMUEN; with PRI, PRIQEN.
#[test]
fn optional_parts() {
    let id = IdRegisters {
        idr0: QEMU.idr0 | 1 << 9 | 1 << 10 | 1 << 16,
        idr1: QEMU.idr1 | 8 << 11,
        ..QEMU
    };
    let bare = bare(id);
    let fake = bare.fake.clone();
    let _smmu = Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options()).unwrap();
    let opcodes: Vec<u8> = fake.state().commands.iter().map(|command| command[0] as u8).collect();
    assert_eq!(opcodes, [0x04, 0x46, 0x20, 0x46, 0x30, 0x46]);
    let enables: Vec<u64> =
        writes(&fake).iter().filter(|write| write.0 == CR0).map(|write| write.1).collect();
    assert_eq!(enables, [0, 0, 0b1000, 0b1100, 0b1110, 0b1_1110, 0b1_1111]);
}

/// Firmware's enabled SMMU: abort by default first, then SMMUEN off while ATSCHK still checks.
#[test]
fn take_over_has_no_window() {
    let bare = bare(QEMU);
    let fake = bare.fake.clone();
    fake.state().set(CR0, 0b1_1101);
    let _smmu = Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options()).unwrap();
    let seen = writes(&fake);
    let gbpa = seen.iter().position(|write| write.0 == GBPA).unwrap();
    let enables: Vec<(usize, u64)> = seen
        .iter()
        .enumerate()
        .filter(|(_, write)| write.0 == CR0)
        .map(|(at, write)| (at, write.1))
        .collect();
    assert!(gbpa < enables[0].0);
    assert_eq!(enables[0].1, 0b1_1100);
    assert_eq!(enables[1].1, 0);
}

#[test]
fn every_stream_aborts_at_first() {
    let bench = bench(QEMU);
    for number in [0, 1, 0x1234, 0xffff] {
        assert_eq!(bench.smmu.stream_state(stream(number)), StreamState::Abort);
        bench.smmu.prepare(stream(number)).unwrap();
        assert_eq!(bench.fake.ste(number), [1, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert!(bench.smmu.prepare(stream(0x1_0000)).is_err());
}

/// A linear table holds abort entries before the SMMU is told of it.
#[test]
fn linear_table() {
    let bench = bench(IdRegisters { idr1: QEMU.idr1 & !0x3f | 8, ..QEMU });
    assert_eq!(bench.fake.state().get(0x88), 8);
    for number in 0..256 {
        assert_eq!(bench.fake.ste(number), [1, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn what_does_not_answer_is_an_error_and_never_enabled() {
    for (register, name) in [(GBPA, "GBPA"), (CR0, "CR0")] {
        let bare = bare(QEMU);
        bare.fake.state().ignore.push(register);
        if register == CR0 {
            bare.fake.state().set(CR0, 1);
        }
        let error = Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options());
        assert_eq!(error.err(), Some(BringUpError::Register(name)));
    }
}

/// An unsupported SMMU is left aborting, and no memory is lost to it.
#[test]
fn a_refusal_leaves_it_aborting_and_the_footprint_unchanged() {
    let bare = bare(IdRegisters { idr1: QEMU.idr1 | 1 << 29, ..QEMU });
    let before = bare.frames.footprint();
    let error = Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options());
    assert_eq!(error.err(), Some(BringUpError::Unsupported(Unsupported::QueuesPreset)));
    assert_eq!(bare.fake.state().get(GBPA) & 1 << 20, 1 << 20);
    assert_eq!(bare.fake.state().get(CR0), 0);
    assert_eq!(bare.frames.footprint(), before);
}

#[test]
fn shutdown_aborts_and_disables() {
    let bench = bench(QEMU);
    bench.smmu.shutdown();
    assert_eq!(bench.fake.state().get(CR0), 0);
    assert!(bench.smmu.aborts_by_default());
    assert!(!bench.smmu.is_alive());
    assert!(bench.smmu.prepare(stream(1)).is_err());
}

/// IRQ_CTRL that never answers does not keep the SMMU enabled.
#[test]
fn a_silent_register_keeps_no_other_from_being_written() {
    let bench = bench(QEMU);
    bench.fake.state().ignore.push(0x50);
    bench.fake.state().set(0x50, 7);
    bench.smmu.shutdown();
    assert_eq!(bench.fake.state().get(CR0), 0);
}

/// Two SMMUs share nothing but the frame allocator.
#[test]
fn several_instances() {
    let (one, two) = (bench(QEMU), bench(QEMU));
    one.smmu.prepare(stream(1)).unwrap();
    one.smmu.shutdown();
    assert!(!one.smmu.is_alive() && two.smmu.is_alive());
    two.smmu.prepare(stream(1)).unwrap();
}

/// Boards have a dozen and more. Each takes two of the ledger's agents: its own, and that of what
/// it translates; the CPUs take one. What is beyond is refused by name.
#[test]
fn two_dozen_but_one_smmus_are_registered_and_the_next_is_refused_by_name() {
    const SMMUS: u32 = 23;
    let bare = bare(QEMU);
    let frames = &bare.frames;
    let iommus = Iommus::new(1, 16);
    let _cpus = frames.register_agent("CPUs").unwrap();
    let bring_up = || {
        let fake = Fake::new(frames, QEMU);
        Smmu::bring_up(fake.mmio(), frames, fake.clock(), options())
    };
    for at in 0..SMMUS {
        let (id, iommu) = (DeviceId::new(at), Some(at + 1));
        let streams = vec![stream(8)];
        let info = DeviceInfo { id, name: "device".into(), iommu, streams, isolation: None };
        iommus.add_device(info).unwrap();
        let driver = Arc::new(bring_up().unwrap());
        let agent = frames.register_agent("smmu").unwrap();
        let registration = Registration { phandle: at + 1, driver, agent };
        iommus.register(registration).map_err(|rejected| rejected.error).unwrap();
    }
    assert_eq!(iommus.footprint().instances, SMMUS as usize);
    assert_eq!(bring_up().map(drop), Err(BringUpError::Agents));
    // A VM behind all of them: each is asked, and its memory waits for the word of each.
    let owner = iommus.owners().open(0).unwrap();
    let two = stage_two(1);
    let domain = iommus.paging_domain(owner, two.table, two.control).unwrap();
    let mut sets = Vec::new();
    for at in 0..SMMUS {
        let group = iommus.group_of(DeviceId::new(at)).unwrap();
        iommus.assign(&group, &domain, StreamPolicy::default()).unwrap();
        sets.push(domain.agents().unwrap());
    }
    for pair in sets.windows(2) {
        assert!(pair[1].contains(pair[0]) && !pair[0].contains(pair[1]), "one more each");
    }
}

/// A VM's map is taken by a view, and comes before every lock of the driver.
#[test]
fn a_view_is_asked_with_no_lock_of_the_drivers_held() {
    use palisade_hal::lock::{Mutex, Rank};
    use palisade_hal::{Iova, PhysAddr, SubstreamId};
    use palisade_iommu::{ContextView, Invalidation};

    struct Map<'s>(Mutex<()>, &'s dyn IommuDriver);
    impl ContextView for Map<'_> {
        fn publish(&self, pa: PhysAddr, _: usize, _: usize) -> Result<u64, DriverError> {
            let _map = self.0.lock();
            Ok(pa.get())
        }
        fn withdraw(&self, _: u64, _: usize) -> Result<(), DriverError> {
            // As a VM's map does, down to the device TLBs.
            let _map = self.0.lock();
            let (start, size) = (Iova::new(0), u64::MAX);
            self.1.invalidate(&[Invalidation::Device {
                stream: stream(4),
                substream: None,
                start,
                size,
            }])
        }
    }
    // Substreams in two levels, and ATS.
    let id = IdRegisters { idr0: QEMU.idr0 | 1 << 19 | 1 << 10, idr1: QEMU.idr1 | 16 << 6, ..QEMU };
    let bench = bench(id);
    let view = Map(Mutex::new(Rank::VmMap, ()), &bench.smmu);
    let trusted = StreamPolicy { ats: true, stalls: false };
    bench.smmu.attach(stream(4), &stage_two(1), trusted).unwrap();
    bench.smmu.create_contexts(stream(4), 12, &view).unwrap();
    let leaves = bench.frames.footprint().dma;
    for substream in [0, 1 << 10, 1] {
        bench.smmu.prepare_context(stream(4), SubstreamId::new(substream), &view).unwrap();
    }
    assert_eq!(bench.frames.footprint().dma - leaves, 2 * 16, "two leaves of 64 KiB");
    assert_eq!(
        bench.smmu.create_contexts(stream(4), 12, &view),
        Err(DriverError::State(stream(4))),
        "one table per stream"
    );
    bench.smmu.destroy_contexts(stream(4), &view).unwrap();
}
