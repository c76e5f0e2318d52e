//! Calls of a guest with any arguments in any order, its memory changing under them. No panic;
//! a call that failed leaves everything as it was; nothing beyond the VM is reached.

use arbitrary::{Result, Unstructured};
use palisade_abi::{
    BindFlags, FAULT_BYTES, FaultRecord, INVALIDATION_BYTES, InvalidationRecord, Status, call,
    pack_widths, unpack_widths,
};
use palisade_hal::{Ipa, StreamId, SubstreamId};
use palisade_iommu::{Access, FaultClass, FaultKind, FaultRecord as Raw, StreamPolicy};
use palisade_vm::hypercall::GuestRam;

use super::house::{BYTES, House, RAM};
use super::reached::Reached;

const ROOT: u64 = RAM + 0x4000;
/// T0SZ 25, write-back walks, inner shareable, 4 KiB, 40 bits.
const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 32;
/// Most steps of one input.
const MOST: usize = 128;

/// One input: what the devices may do, then what the guest does.
pub fn hypercall(data: &[u8], reached: &mut Reached) {
    let Some((kind, rest)) = data.split_first() else { return };
    let policy = StreamPolicy { ats: kind & 1 != 0, stalls: kind & 2 != 0 };
    let Ok(house) = House::new(policy) else { panic!("no house") };
    let mut input = Unstructured::new(rest);
    for _ in 0..MOST {
        if input.is_empty() || step(&house, &mut input, reached).is_err() {
            break;
        }
    }
    assert!(house.finish().is_ok());
}

fn step(house: &House, input: &mut Unstructured<'_>, reached: &mut Reached) -> Result<()> {
    match input.int_in_range(0..=15u8)? {
        0 | 1 => {
            // The guest writes where calls will look.
            let at = RAM + input.int_in_range(0..=7u64)? * 8;
            let word: u64 = match input.int_in_range(0..=3u8)? {
                0 => input.arbitrary()?,
                1 => 1 | input.int_in_range(0..=7u64)? << 1,
                2 => u64::from(*input.choose(&[0x06u32, 0x10, 0x11, 0x12, 0x13, 0x30, 0x46])?),
                _ => input.int_in_range(0..=3u64)? << 32 | 8,
            };
            assert!(house.ram.write(Ipa::new(at), &word.to_le_bytes()).is_ok());
        }
        2 => house.ram.ambush(input.arbitrary()?, input.arbitrary()?),
        3 => house.driver.push_event(event(input)?),
        4 => words(input)?,
        _ => one_call(house, input, reached)?,
    }
    Ok(())
}

fn one_call(house: &House, input: &mut Unstructured<'_>, reached: &mut Reached) -> Result<()> {
    let function = match input.int_in_range(0..=31u8)? {
        0 => input.arbitrary()?,
        1 => *input.choose(&[call::COUNT, call::UID, call::REVISION])?,
        2..=12 => *input.choose(&[
            call::BIND,
            call::UNBIND,
            call::CONTEXTS_ENABLE,
            call::EXIT,
            call::INVALIDATE,
            call::INVALIDATE_BATCH,
            call::STREAM_ENTRY,
            call::COMMANDS,
        ])?,
        _ => call::BASE + input.int_in_range(0..=call::CALLS)?,
    };
    let mut arguments = [0; 6];
    if input.ratio(1, 6u8)? {
        for argument in &mut arguments {
            *argument = any(input)?;
        }
    } else {
        // Well-formed, so that deep states are reached.
        let device = *input.choose(&[8, 16])?;
        let space = input.int_in_range(0..=3u64)?;
        let substream = input.int_in_range(0..=2u64)?;
        arguments = match function {
            call::BIND => {
                let flags = (space + 1) | (input.int_in_range(0..=1)? * BindFlags::REBIND);
                [device, substream, ROOT + space * 4096, TCR, 0xff, flags]
            }
            call::UNBIND => [device, substream, 0, 0, 0, 0],
            call::EXIT => [space + 1, 0, 0, 0, 0, 0],
            call::INVALIDATE => {
                let end = input.int_in_range(0..=1 << 20)? << 12;
                [space + 1, 0, end, 0, 0, 0]
            }
            call::INVALIDATE_BATCH => [RAM, input.int_in_range(0..=65)?, 0, 0, 0, 0],
            call::CONTEXTS_ENABLE => [device, 3, input.int_in_range(0..=2)?, 0, 0, 0],
            call::STREAM_ENTRY | call::COMMANDS => [device, RAM, substream, 0, 0, 0],
            call::STAGE1_DISABLE if input.ratio(7, 8u8)? => [0; 6],
            call::FAULT_RING => [RAM + 0x8000, 4096, 0, 0, 0, 0],
            call::RESUME => [device, substream, input.int_in_range(0..=2)?, 0, 0, 0],
            _ => [device, any(input)?, any(input)?, 0, 0, 0],
        };
    }
    let before = house.everything();
    let [status, results @ ..] = house.service.handle(function, arguments);
    let context = (function, arguments);
    if function != call::COUNT && function != call::UID && function != call::REVISION {
        let Some(status) = Status::from_register(status) else {
            panic!("{context:x?}: {status:#x} is no status");
        };
        if status != Status::Success {
            let now = house.everything();
            assert_eq!(now, before, "{context:x?} {status:?} {results:x?}");
        }
        reached.note(match (status, function) {
            (Status::Success, call::BIND) => "bound",
            (Status::Success, call::UNBIND) => "unbound",
            (Status::Success, call::EXIT) => "exited",
            (Status::Success, call::CONTEXTS_ENABLE) => "contexts",
            (Status::Success, call::STREAM_ENTRY) => "entry",
            (Status::Success, call::COMMANDS) => "commands",
            (Status::Success, call::INVALIDATE | call::INVALIDATE_BATCH) => "invalidated",
            (Status::Success, call::FAULTS_POLL) => "polled",
            (Status::Success, call::RESUME) => "resumed",
            (Status::Success, _) => "done",
            (Status::NotFound, _) => "not found",
            (Status::Invalid, _) => "invalid",
            (Status::Outside, _) => "outside",
            (Status::Busy, _) => "busy",
            (Status::Refused, _) => "refused",
            _ => "failed",
        });
    }
    house.judge(input.int_in_range(0..=9)?);
    Ok(())
}

/// A value that has a chance to pass some check.
fn any(input: &mut Unstructured<'_>) -> Result<u64> {
    let page = input.int_in_range(0..=BYTES / 4096 - 1)? * 4096;
    Ok(match input.int_in_range(0..=9u8)? {
        0 => input.arbitrary()?,
        1 => u64::MAX - input.int_in_range(0..=64)?,
        2 => 8 * input.int_in_range(0..=4)?,
        3 => input.int_in_range(0..=70)?,
        4 => RAM + page,
        5 => RAM + page + input.int_in_range(0..=4095)?,
        6 => TCR ^ 1 << input.int_in_range(0..=40u32)?,
        7 => page,
        8 => *input.choose(&[0x30, 0x9000_0000, 0xa000_0000, RAM - 8])?,
        _ => RAM + BYTES - input.int_in_range(0..=128)?,
    })
}

/// What an IOMMU reports: of the VM's devices, of the other's, of nobody's.
fn event(input: &mut Unstructured<'_>) -> Result<Raw> {
    let stall = if input.arbitrary()? { Some(input.int_in_range(0..=7)?) } else { None };
    Ok(Raw {
        kind: FaultKind::Translation,
        stream: StreamId::new(*input.choose(&[0x10, 0x10, 0x20, 0x30, 0x999])?),
        substream: Some(SubstreamId::new(input.int_in_range(0..=7)?)),
        access: Access { write: input.arbitrary()?, ..Access::default() },
        class: FaultClass::Input,
        stage2: input.arbitrary()?,
        stall,
        address: input.arbitrary()?,
        ipa: input.arbitrary()?,
        raw: input.arbitrary()?,
    })
}

/// The structures of the interface: any bytes are one, and the same bytes come back.
fn words(input: &mut Unstructured<'_>) -> Result<()> {
    let bytes: [u8; INVALIDATION_BYTES] = input.arbitrary()?;
    assert_eq!(InvalidationRecord::from_bytes(&bytes).to_bytes(), bytes);
    let bytes: [u8; FAULT_BYTES] = input.arbitrary()?;
    let record = FaultRecord::from_bytes(&bytes);
    assert_eq!(FaultRecord::from_bytes(&record.to_bytes()), record);
    let register: u64 = input.arbitrary()?;
    if let Some(status) = Status::from_register(register) {
        assert_eq!(status.to_register(), register);
    }
    let (substreams, asids, ipas) = input.arbitrary()?;
    let widths = unpack_widths(pack_widths(substreams, asids, ipas));
    assert_eq!(widths, (substreams, asids, ipas));
    Ok(())
}
