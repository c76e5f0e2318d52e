//! A guest's own SMMU: any registers, memory and commands, and whatever devices report.

use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use palisade_hal::{Ipa, StreamId};
use palisade_iommu::{Access as Kind, FaultClass, FaultKind, FaultRecord, StreamPolicy};
use palisade_vm::hypercall::GuestRam;
use palisade_vm::mmio::{Access, MmioDevice, Width};
use palisade_vm::smmu::{ENTRY_UNITS, EXIT_UNITS, SmmuDevice};

use super::house::{BYTES, House, RAM};
use super::reached::Reached;

/// Most steps of one input.
const MOST: usize = 256;
/// Where a well-formed guest has its tables and queues.
const TABLE: u64 = RAM;
const SECOND: u64 = RAM + 0x4000;
const COMMANDS: u64 = RAM + 0x1000;
const EVENTS: u64 = RAM + 0x2000;
/// Registers (IHI 0070, 6.2) that a kernel stores to, with what it stores.
const STORES: [(u64, u64); 14] = [
    (0x20, 0x0),
    (0x20, 0xd),
    (0x20, 0xd),
    (0x20, 0xc),
    (0x44, 1 << 31 | 1 << 20),
    (0x44, 1 << 31),
    (0x50, 5),
    (0x80, TABLE),
    (0x88, 0x1_0210),
    (0x90, COMMANDS | 8),
    (0xa0, EVENTS | 2),
    (0x9c, 0),
    (0x100a8, 0),
    (0x100ac, 0),
];
const PROD: u64 = 0x98;
const CONS: u64 = 0x9c;
/// CMD_SYNC (4.7.3).
const SYNC: [u64; 2] = [0x46, 0];

/// One input.
pub fn virtual_smmu(data: &[u8], reached: &mut Reached) {
    let Some((kind, rest)) = data.split_first() else { return };
    let policy = StreamPolicy { ats: false, stalls: kind & 1 != 0 };
    let Ok((house, smmu)) = House::with_smmu(policy) else { panic!("no house") };
    if kind & 2 != 0 {
        bring_up(&house, &smmu);
    }
    let mut input = Unstructured::new(rest);
    for _ in 0..MOST {
        if input.is_empty() || step(&house, &smmu, &mut input).is_err() {
            break;
        }
    }
    let counts = smmu.counts();
    for (count, what) in [
        (counts.commands.commands, "commands"),
        (counts.commands.syncs, "synchronised"),
        (counts.commands.batches, "batches"),
        (counts.commands.entries, "entries"),
        (counts.commands.refused, "refused"),
        (counts.commands.illegal, "illegal"),
        (counts.commands.continued, "continued"),
        (counts.events, "told"),
        (counts.events_lost, "lost"),
    ] {
        if count > 0 {
            reached.note(what);
        }
    }
    assert!(house.finish().is_ok());
}

fn store(smmu: &SmmuDevice, offset: u64, width: Width, value: u64) {
    let before = smmu.counts().commands;
    smmu.write(Access { vcpu: 0, offset, width }, value);
    let now = smmu.counts().commands;
    // A store of both halves of a register may be two; a switch reads every entry besides.
    let most = 2 * (u64::from(EXIT_UNITS / ENTRY_UNITS) + 2);
    assert!(now.entries - before.entries <= most, "one exit read too many entries");
    assert!(now.commands - before.commands <= 2 * u64::from(EXIT_UNITS), "one exit has no end");
}

fn load(smmu: &SmmuDevice, offset: u64, width: Width) -> u64 {
    smmu.read(Access { vcpu: 0, offset, width })
}

fn put(house: &House, at: u64, words: &[u64]) {
    for (nth, word) in words.iter().enumerate() {
        let _ = house.ram.write(Ipa::new(at + nth as u64 * 8), &word.to_le_bytes());
    }
}

fn bring_up(house: &House, smmu: &SmmuDevice) {
    put(house, TABLE, &[SECOND | 9]);
    (0..256).for_each(|slot| put(house, COMMANDS + slot * 16, &SYNC));
    for (offset, value) in STORES.iter().skip(7).chain([&(0x20, 0xd)]) {
        let width =
            if matches!(offset, 0x80 | 0x90 | 0xa0) { Width::Bits64 } else { Width::Bits32 };
        store(smmu, *offset, width, *value);
    }
}

fn step(house: &House, smmu: &Arc<SmmuDevice>, input: &mut Unstructured<'_>) -> Result<()> {
    match input.int_in_range(0..=15u8)? {
        0 => {
            let width = *input.choose(&[Width::Bits8, Width::Bits32, Width::Bits64])?;
            let offset = u64::from(input.int_in_range(0..=0x40u32)?) * 4;
            let page = input.int_in_range(0..=1u64)? << 16;
            store(smmu, offset | page, width, input.arbitrary()?);
        }
        1 => {
            let (offset, value) = *input.choose(&STORES)?;
            store(smmu, offset, Width::Bits32, value);
        }
        2 | 3 => {
            // As Linux goes on: another command in its place.
            let cons = load(smmu, CONS, Width::Bits32);
            put(house, COMMANDS + (cons & 0xff) * 16, &SYNC);
            store(smmu, 0x20, Width::Bits32, 0xd);
            let errors = load(smmu, 0x60, Width::Bits32);
            store(smmu, 0x64, Width::Bits32, errors);
        }
        4 => put(house, RAM + input.int_in_range(0..=BYTES / 8 - 8)? * 8, &[input.arbitrary()?]),
        5 => {
            let stream = *input.choose(&[8, 16, 16])?;
            put(house, SECOND + stream * 64, &entry(input)?);
        }
        6..=9 => {
            for _ in 0..input.int_in_range(1..=9u8)? {
                let prod = load(smmu, PROD, Width::Bits32);
                put(house, COMMANDS + (prod & 0xff) * 16, &command(input)?);
                if input.ratio(1, 3u8)? {
                    store(smmu, PROD, Width::Bits32, (prod + 1) & 0x1ff);
                }
            }
            let prod = load(smmu, PROD, Width::Bits32);
            store(smmu, PROD, Width::Bits32, (prod + 1) & 0x1ff);
        }
        10 => {
            if input.ratio(1, 8u8)? {
                store(smmu, PROD, Width::Bits32, input.int_in_range(0..=0x3ff)?);
            }
        }
        11 | 12 => {
            house.driver.push_event(event(input)?);
            for instance in house.iommus.instances() {
                house.iommus.drain(&instance, 8);
            }
            house.service.pump(&mut |_| {});
        }
        13 => house.ram.ambush(input.arbitrary()?, input.arbitrary()?),
        14 => {
            let offset = u64::from(input.int_in_range(0..=0x3fffu16)?) * 8;
            load(smmu, offset, Width::Bits64);
            assert_eq!(load(smmu, 0x20, Width::Bits32), load(smmu, 0x24, Width::Bits32));
        }
        _ => {
            if input.ratio(1, 8u8)? {
                house.service.reset();
                assert_eq!(load(smmu, 0x20, Width::Bits32), 0);
            }
        }
    }
    // The vCPU's loop. The guest's queue has 2^8 commands, each of two entries at most.
    let mut exits = 0;
    while smmu.is_behind() && smmu.go_on() {
        exits += 1;
        assert!(exits <= 64, "a queue has no end");
    }
    let cons = load(smmu, CONS, Width::Bits32);
    assert!(cons & 0x80f0_0000 == 0, "CONS {cons:#x}");
    house.judge(input.int_in_range(0..=9)?);
    Ok(())
}

fn entry(input: &mut Unstructured<'_>) -> Result<[u64; 8]> {
    let mut words: [u64; 8] = [0; 8];
    if input.ratio(1, 12u8)? {
        words = input.arbitrary()?;
    }
    let config = *input.choose(&[0u64, 4, 5, 5, 5, 6, 7])?;
    words[0] = words[0] & !0xf | 1 | config << 1;
    Ok(words)
}

fn command(input: &mut Unstructured<'_>) -> Result<[u64; 2]> {
    if input.ratio(1, 40u8)? {
        return input.arbitrary();
    }
    let opcode = *input.choose(&[
        0x01u64, 0x03, 0x03, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x30, 0x46, 0x46, 0x46,
    ])?;
    let stream = *input.choose(&[8u64, 16, 16, 0x10, 0x30, 0xffff])?;
    Ok(match opcode {
        0x04 => [opcode | stream << 32, input.int_in_range(0..=31)?],
        0x46 => {
            let how = input.int_in_range(0..=2u64)?;
            let at = RAM + input.int_in_range(0..=BYTES / 4)? * 4;
            [opcode | how << 12 | 0x5a << 32, if how == 1 { at } else { 0 }]
        }
        _ => [opcode | stream << 32, 1],
    })
}

/// What an IOMMU reports: of the VM's devices, of the other's, of nobody's.
fn event(input: &mut Unstructured<'_>) -> Result<FaultRecord> {
    let stall = if input.arbitrary()? { Some(input.int_in_range(0..=7)?) } else { None };
    Ok(FaultRecord {
        kind: *input.choose(&[FaultKind::Translation, FaultKind::BadCd, FaultKind::BadSte])?,
        stream: StreamId::new(*input.choose(&[0x10, 0x10, 0x20, 0x30, 0x999])?),
        substream: None,
        access: Kind::default(),
        class: FaultClass::Input,
        stage2: input.arbitrary()?,
        stall,
        address: input.arbitrary()?,
        ipa: input.arbitrary()?,
        raw: input.arbitrary()?,
    })
}
