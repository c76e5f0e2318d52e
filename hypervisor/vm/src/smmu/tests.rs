//! The emulation over a memory and a physical SMMU that only take notes.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use palisade_hal::Ipa;
use palisade_spec::{Cmd, Config, EventRecord, Field, Opcode, Ste, Words, register};

use super::*;

/// RAM of the guest.
const RAM: core::ops::Range<u64> = 0x4000_0000..0x4100_0000;
const TABLE: u64 = 0x4000_0000;
const SECOND: u64 = 0x4001_0000;
const COMMANDS: u64 = 0x4002_0000;
const EVENTS: u64 = 0x4003_0000;
const WORD: u64 = 0x4004_0000;

/// What reached the world behind, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Note {
    Attach(usize, u64),
    Batch(Vec<u64>),
    Resume(u64),
    Interrupt(Wire),
}

#[derive(Default)]
struct World {
    memory: BTreeMap<u64, u8>,
    notes: Vec<Note>,
    /// The opcode that the physical SMMU blames.
    blame: Option<(u64, CommandFailure)>,
    /// Entries with this configuration are refused.
    refuse: Option<u64>,
}

impl World {
    fn put(&mut self, at: u64, words: &[u64]) {
        for (index, byte) in words.iter().flat_map(|word| word.to_le_bytes()).enumerate() {
            self.memory.insert(at + index as u64, byte);
        }
    }
}

impl Outlet for World {
    fn write(&mut self, at: Ipa, from: &[u8]) -> bool {
        let at = at.get();
        if !RAM.contains(&at) {
            return false;
        }
        self.memory.extend(from.iter().enumerate().map(|(n, byte)| (at + n as u64, *byte)));
        true
    }

    fn interrupt(&mut self, wire: Wire) {
        self.notes.push(Note::Interrupt(wire));
    }
}

impl Backend for World {
    fn read(&mut self, at: Ipa, to: &mut [u8]) -> bool {
        let at = at.get();
        let inside = RAM.contains(&at) && at + to.len() as u64 <= RAM.end;
        for (index, byte) in to.iter_mut().enumerate() {
            *byte = self.memory.get(&(at + index as u64)).copied().unwrap_or(0);
        }
        inside
    }

    fn attach(&mut self, group: usize, entry: &Words) -> Result<bool, EntryRefused> {
        let config = if Ste::V.get(entry) == 0 { 0 } else { Ste::CONFIG.get(entry) };
        self.notes.push(Note::Attach(group, config));
        if self.refuse == Some(config) {
            Err(EntryRefused)
        } else {
            Ok(config == Config::Stage1 as u64)
        }
    }

    fn invalidate(&mut self, commands: &[[u64; 2]]) -> Result<(), (usize, CommandFailure)> {
        let opcodes: Vec<u64> = commands.iter().map(|words| Cmd::OPCODE.get(words)).collect();
        if let Some((blamed, why)) = self.blame
            && let Some(at) = opcodes.iter().position(|opcode| *opcode == blamed)
        {
            self.notes.push(Note::Batch(opcodes[..at].to_vec()));
            return Err((at, why));
        }
        self.notes.push(Note::Batch(opcodes));
        Ok(())
    }

    fn resume(&mut self, command: &[u64; 2]) {
        self.notes.push(Note::Resume(Cmd::STAG.get(command)));
    }
}

/// QEMU's SMMU as a guest is shown it, with messages, without stalls.
fn identity() -> Identity {
    let idr0 = 1 << 27 | 1 << 24 | 2 << 21 | 1 << 19 | 1 << 13 | 1 << 12 | 1 << 4 | 2 << 2 | 2;
    Identity { idr: [idr0, 8 << 21 | 7 << 16 | 16, 0, 1 << 10, 0, 0x74], aidr: 2 }
}

struct Machine {
    smmu: VirtualSmmu,
    events: Events,
    world: World,
    prod: u32,
}

fn machine_of(identity: Identity, devices: &[(usize, u32)]) -> Machine {
    let mut machine = Machine {
        smmu: VirtualSmmu::new(identity),
        events: EventSide::locked(identity),
        world: World::default(),
        prod: 0,
    };
    for (group, stream) in devices {
        let Machine { smmu, events, world, .. } = &mut machine;
        smmu.add(*group, *stream, world, events).unwrap();
    }
    machine.world.notes.clear();
    machine
}

fn machine() -> Machine {
    machine_of(identity(), &[(0, 8), (1, 16)])
}

fn command(opcode: Opcode, fields: &[(Field, u64)]) -> [u64; 2] {
    let mut words = [0; 2];
    Cmd::OPCODE.set(&mut words, opcode as u64);
    fields.iter().for_each(|(field, value)| field.set(&mut words, *value));
    words
}

fn sync() -> [u64; 2] {
    command(Opcode::Sync, &[])
}

impl Machine {
    fn write(&mut self, offset: u64, value: u64) -> Progress {
        let bytes = if value >> 32 != 0 { 8 } else { 4 };
        let Self { smmu, events, world, .. } = self;
        smmu.write(offset, bytes, value, world, events)
    }

    fn go_on(&mut self) -> Progress {
        let Self { smmu, events, world, .. } = self;
        smmu.advance(world, events)
    }

    fn set(&mut self, offset: u64, value: u64) {
        assert_eq!(self.write(offset, value), Progress::Done);
    }

    fn read(&self, offset: u64) -> u64 {
        self.smmu.read(offset, 4, &self.events)
    }

    /// What a kernel does at boot: a two-level table, both queues, interrupts, SMMUEN.
    fn bring_up(&mut self) {
        self.set(register::STRTAB_BASE, 1 << 62 | TABLE);
        self.set(register::STRTAB_BASE_CFG, 0x1_0210);
        self.set(register::CMDQ_BASE, 1 << 62 | COMMANDS | 8);
        self.set(register::CMDQ_PROD, 0);
        self.set(register::CMDQ_CONS, 0);
        self.set(register::CR0, 8);
        self.set(register::EVENTQ_BASE, 1 << 62 | EVENTS | 7);
        self.set(register::EVENTQ_PROD, 0);
        self.set(register::EVENTQ_CONS, 0);
        self.set(register::CR0, 0xc);
        self.set(register::IRQ_CTRL, 5);
        self.set(register::CR0, 0xd);
        self.world.notes.clear();
    }

    /// Puts an entry with this configuration into the second level of the table.
    fn entry(&mut self, stream: u64, config: Config) {
        let mut words = [0; 8];
        Ste::V.set(&mut words, 1);
        Ste::CONFIG.set(&mut words, config as u64);
        self.world.put(TABLE, &[SECOND | 9]);
        self.world.put(SECOND + stream * 64, &words);
    }

    fn queue(&mut self, commands: &[[u64; 2]]) {
        for words in commands {
            let at = u64::from(self.prod & 0xff) * 16;
            self.world.put(COMMANDS + at, words);
            self.prod = (self.prod + 1) & 0x1ff;
        }
    }

    fn send(&mut self, commands: &[[u64; 2]]) {
        self.queue(commands);
        self.set(register::CMDQ_PROD, u64::from(self.prod));
    }

    /// With stage 1 in force for the first device.
    fn nested() -> Self {
        let mut machine = machine();
        machine.bring_up();
        machine.entry(8, Config::Stage1);
        machine.send(&[command(Opcode::CfgiSte, &[(Cmd::STREAM_ID, 8)]), sync()]);
        machine.world.notes.clear();
        machine
    }

    fn take(&mut self) -> Vec<Note> {
        core::mem::take(&mut self.world.notes)
    }
}

#[test]
fn a_kernels_bring_up_reads_back_and_reads_the_table_when_it_is_on() {
    let mut machine = machine();
    machine.entry(8, Config::Stage1);
    machine.bring_up();
    assert_eq!(machine.read(register::CR0ACK), 0xd);
    assert_eq!(machine.read(register::IRQ_CTRLACK), 5);
    assert_eq!(machine.read(register::CMDQ_CONS), 0);
    assert_eq!(machine.read(register::IIDR), 0);
    assert!(machine.smmu.is_nested(0) && !machine.smmu.is_nested(1));
    machine.set(register::CR0, 0xc);
    let off = Config::Bypass as u64;
    assert_eq!(machine.take(), [Note::Attach(0, off), Note::Attach(1, off)], "GBPA lets pass");
    machine.set(register::GBPA, u64::from(register::GBPA_UPDATE | register::GBPA_ABORT));
    assert_eq!(machine.take(), [Note::Attach(0, 0), Note::Attach(1, 0)]);
    assert_eq!(machine.read(register::GBPA), u64::from(register::GBPA_ABORT), "Update reads 0");
}

#[test]
fn many_commands_are_one_batch() {
    let mut machine = Machine::nested();
    let tlbi = command(Opcode::TlbiNhVa, &[(Cmd::ASID, 1), (Cmd::ADDRESS, 0x1234)]);
    let context = command(Opcode::CfgiCd, &[(Cmd::STREAM_ID, 8)]);
    let other = command(Opcode::CfgiCd, &[(Cmd::STREAM_ID, 16)]);
    machine.send(&[tlbi, context, sync(), other, tlbi, sync()]);
    // The second device is not nested, so a command about its contexts does nothing.
    assert_eq!(machine.take(), [Note::Batch(vec![0x12, 0x05, 0x12])]);
    assert_eq!(machine.read(register::CMDQ_CONS), u64::from(machine.prod));
    assert_eq!(machine.smmu.counts().batches, 1);
}

#[test]
fn what_comes_before_an_entry_is_complete_before_it_is_read() {
    let mut machine = Machine::nested();
    let tlbi = command(Opcode::TlbiNsnhAll, &[]);
    let entry = command(Opcode::CfgiSte, &[(Cmd::STREAM_ID, 8)]);
    machine.send(&[tlbi, entry, tlbi, sync()]);
    let config = Config::Stage1 as u64;
    assert_eq!(
        machine.take(),
        [Note::Batch(vec![0x30]), Note::Attach(0, config), Note::Batch(vec![0x30])]
    );
}

#[test]
fn ranges_name_their_own_devices_only() {
    let mut machine = Machine::nested();
    let range = |stream, range| {
        command(Opcode::CfgiSteRange, &[(Cmd::STREAM_ID, stream), (Cmd::RANGE, range)])
    };
    for (stream, bits, groups) in
        [(8, 2, vec![0]), (0, 3, vec![0]), (0, 4, vec![0, 1]), (0, 31, vec![0, 1]), (64, 1, vec![])]
    {
        machine.send(&[range(stream, bits), sync()]);
        let seen: Vec<usize> = machine
            .take()
            .iter()
            .map(|note| if let Note::Attach(group, _) = note { *group } else { usize::MAX })
            .collect();
        assert_eq!(seen, groups, "{stream} {bits}");
    }
}

#[test]
fn a_message_is_written_after_the_physical_synchronisation_only() {
    let mut machine = Machine::nested();
    let tlbi = command(Opcode::TlbiNhAll, &[]);
    let mut message = command(Opcode::Sync, &[(Cmd::CS, 1), (Cmd::MSI_DATA, 0x5a)]);
    Cmd::MSI_ADDRESS.set_address(&mut message, WORD);
    machine.world.blame = Some((Opcode::TlbiNhAll as u64, CommandFailure::Illegal));
    machine.send(&[tlbi, message]);
    assert!(!machine.world.memory.contains_key(&WORD), "the command before it is not done");
    machine.world.blame = None;
    machine.set(register::GERRORN, machine.read(register::GERROR));
    assert_eq!(machine.world.memory.get(&WORD), Some(&0x5a));
    // One that has nowhere to go is a global error, and the queue goes on.
    Cmd::MSI_ADDRESS.set_address(&mut message, 0x9000_0000);
    machine.send(&[message, sync()]);
    let active = machine.read(register::GERROR) ^ machine.read(register::GERRORN);
    assert_eq!(active, u64::from(register::MSI_CMDQ_ABT_ERR));
    // ERR keeps its last value and means nothing while no error is active.
    assert_eq!(machine.read(register::CMDQ_CONS) & 0xf_ffff, u64::from(machine.prod));
    // Without an address it is the wire.
    machine.take();
    machine.send(&[command(Opcode::Sync, &[(Cmd::CS, 1)])]);
    assert_eq!(machine.take(), [Note::Interrupt(Wire::Sync)]);
}

#[test]
fn an_illegal_command_stops_the_queue_there_until_it_is_acknowledged() {
    let illegal = [
        [0xff, 0],
        command(Opcode::TlbiS2Ipa, &[]),
        command(Opcode::TlbiS12Vmall, &[]),
        command(Opcode::TlbiEl2All, &[]),
        command(Opcode::AtcInv, &[(Cmd::STREAM_ID, 8)]),
        command(Opcode::Resume, &[(Cmd::STREAM_ID, 8)]),
        command(Opcode::PriResp, &[]),
        command(Opcode::Sync, &[(Cmd::CS, 3)]),
        command(Opcode::CfgiSte, &[(Cmd::SSEC, 1)]),
        command(Opcode::CfgiCd, &[(Cmd::SSEC, 1)]),
    ];
    for words in illegal {
        let mut machine = Machine::nested();
        let at = machine.prod + 1;
        machine.send(&[command(Opcode::TlbiNhAll, &[]), words, sync()]);
        assert_eq!(machine.read(register::CMDQ_CONS), u64::from(at | 1 << 24), "{words:x?}");
        let notes = machine.take();
        assert_eq!(notes, [Note::Batch(vec![0x10]), Note::Interrupt(Wire::Error)]);
        // Nothing moves until the error is acknowledged; the guest replaces the command.
        machine.set(register::CMDQ_PROD, u64::from(machine.prod));
        assert_eq!(machine.read(register::CMDQ_CONS) & 0xfffff, u64::from(at));
        machine.world.put(COMMANDS + u64::from(at & 0xff) * 16, &sync());
        machine.set(register::GERRORN, machine.read(register::GERROR));
        assert_eq!(machine.read(register::CMDQ_CONS) & 0xfffff, u64::from(machine.prod));
    }
}

#[test]
fn the_physical_smmus_refusal_is_placed_at_the_very_command() {
    let mut machine = Machine::nested();
    machine.world.blame = Some((Opcode::TlbiNhVaa as u64, CommandFailure::Illegal));
    let (all, vaa) = (command(Opcode::TlbiNhAll, &[]), command(Opcode::TlbiNhVaa, &[]));
    let foreign = command(Opcode::CfgiCd, &[(Cmd::STREAM_ID, 99)]);
    let at = machine.prod + 4;
    machine.send(&[all, sync(), foreign, foreign, vaa, all, sync()]);
    assert_eq!(machine.read(register::CMDQ_CONS), u64::from(at | 1 << 24));
}

#[test]
fn a_queue_outside_memory_is_an_abort() {
    let mut machine = machine();
    machine.set(register::CMDQ_BASE, 0x9000_0008);
    machine.set(register::CR0, 8);
    machine.set(register::CMDQ_PROD, 1);
    assert_eq!(machine.read(register::CMDQ_CONS), 2 << 24);
    assert_eq!(machine.read(register::GERROR), 1);
}

#[test]
fn an_exit_is_bounded_and_what_is_left_is_gone_on_with() {
    let mut machine = Machine::nested();
    let everything = command(Opcode::CfgiSteRange, &[(Cmd::RANGE, 31)]);
    machine.queue(&vec![everything; 100]);
    let prod = u64::from(machine.prod);
    let mut progress = machine.write(register::CMDQ_PROD, prod);
    let mut exits = 1;
    while progress == Progress::Again {
        progress = machine.go_on();
        exits += 1;
        assert!(exits < 100);
    }
    let attached = machine.take().len();
    assert_eq!(attached, 200, "each of two devices, once a command");
    let most = (EXIT_UNITS / ENTRY_UNITS) as usize;
    assert!(exits >= attached / most, "{exits} exits");
    assert_eq!(machine.read(register::CMDQ_CONS), prod);
    assert_eq!(machine.smmu.counts().continued, exits as u64 - 1);
}

#[test]
fn another_vcpu_may_move_prod_on_meanwhile() {
    let mut machine = Machine::nested();
    let everything = command(Opcode::CfgiSteRange, &[(Cmd::RANGE, 31)]);
    machine.queue(&[everything; 20]);
    let first = u64::from(machine.prod);
    assert_eq!(machine.write(register::CMDQ_PROD, first), Progress::Again);
    machine.queue(&[sync()]);
    let second = u64::from(machine.prod);
    let mut progress = machine.write(register::CMDQ_PROD, second);
    while progress == Progress::Again {
        progress = machine.go_on();
    }
    assert_eq!(machine.read(register::CMDQ_PROD), second);
    assert_eq!(machine.read(register::CMDQ_CONS), second);
}

#[test]
fn prod_beyond_the_queue_ends() {
    for prod in [0x1ff, 0xfffff, 0x80, 0x100, 0x101] {
        let mut machine = Machine::nested();
        machine.world.memory.retain(|at, _| !(COMMANDS..COMMANDS + 4096).contains(at));
        let mut exits = 0;
        let mut progress = machine.write(register::CMDQ_PROD, prod);
        while progress == Progress::Again {
            progress = machine.go_on();
            exits += 1;
            assert!(exits < 10, "{prod:#x}");
        }
    }
}

#[test]
fn registers_are_fixed_while_what_they_configure_is_on() {
    let mut machine = machine();
    machine.bring_up();
    for (offset, value) in [
        (register::STRTAB_BASE, 0x4fff_0000),
        (register::STRTAB_BASE_CFG, 0),
        (register::CMDQ_BASE, 0x4fff_0000),
        (register::CMDQ_CONS, 0x12),
        (register::EVENTQ_BASE, 0x4fff_0000),
        (register::EVENTQ_PROD, 0x12),
        (register::IDR0, 0),
        (register::GERROR, 0xff),
    ] {
        let before = machine.read(offset);
        machine.set(offset, value);
        assert_eq!(machine.read(offset), before, "{offset:#x}");
    }
}

#[test]
fn a_refused_entry_is_one_event_and_never_a_command_error() {
    let mut machine = machine();
    machine.bring_up();
    machine.world.refuse = Some(Config::Stage1 as u64);
    machine.entry(8, Config::Stage1);
    machine.send(&[command(Opcode::CfgiSte, &[(Cmd::STREAM_ID, 8)]), sync()]);
    assert_eq!(machine.read(register::CMDQ_CONS), u64::from(machine.prod));
    assert_eq!(machine.read(register::EVENTQ_PROD), 1);
    let mut record = [0; 32];
    assert!(machine.world.read(Ipa::new(EVENTS), &mut record));
    assert_eq!((record[0], record[4]), (0x04, 8), "C_BAD_STE of stream 8");
    assert!(machine.take().contains(&Note::Interrupt(Wire::Event)));
    assert_eq!(machine.smmu.counts().refused, 1);
}

#[test]
fn tables_are_read_as_the_manual_lays_them_out() {
    let stage1 = Config::Stage1 as u64;
    let attached = |config: u64, first: u64, stream: u32| {
        let mut machine = machine_of(identity(), &[(0, stream)]);
        machine.bring_up();
        machine.set(register::CR0, 0xc);
        machine.set(register::STRTAB_BASE_CFG, config);
        let index = u64::from(stream) & 0xff;
        machine.entry(index, Config::Stage1);
        machine.world.put(TABLE, &[first]);
        machine.world.put(TABLE + u64::from(stream) * 64, &[0x4b]);
        machine.take();
        machine.set(register::CR0, 0xd);
        machine.take()
    };
    assert_eq!(attached(0x1_0210, SECOND | 9, 8), [Note::Attach(0, stage1)]);
    // Span: none, too small for the index, reserved.
    for span in [0, 1, 4, 12, 31] {
        assert_eq!(attached(0x1_0210, SECOND | span, 8), [Note::Attach(0, 0)], "span {span}");
    }
    // A second level in no memory, and a StreamID beyond a small table.
    assert_eq!(attached(0x1_0210, 0x9000_0009, 8), [Note::Attach(0, 0)]);
    assert_eq!(attached(0x1_0202, SECOND | 9, 8), [Note::Attach(0, 0)]);
    // A reserved SPLIT behaves as 6, LOG2SIZE is cut at SIDSIZE.
    assert_eq!(attached(0x1_0000 | 15 << 6 | 0x3f, SECOND | 7, 8), [Note::Attach(0, stage1)]);
    assert_eq!(attached(0x1_0000 | 16, SECOND | 7, 8), [Note::Attach(0, stage1)]);
}

#[test]
fn devices_of_one_group_abort_until_their_entries_agree() {
    let mut machine = machine_of(identity(), &[(0, 8), (0, 9)]);
    machine.bring_up();
    let cfgi = |stream| command(Opcode::CfgiSte, &[(Cmd::STREAM_ID, stream)]);
    machine.entry(8, Config::Stage1);
    machine.send(&[cfgi(8)]);
    assert_eq!(machine.take(), [Note::Attach(0, 0)]);
    machine.entry(9, Config::Stage1);
    machine.send(&[cfgi(9)]);
    assert_eq!(machine.take(), [Note::Attach(0, Config::Stage1 as u64)]);
}

#[test]
fn an_event_queue_overflows_once_until_it_is_acknowledged() {
    let mut machine = machine();
    machine.set(register::EVENTQ_BASE, EVENTS);
    machine.set(register::CR0, 4);
    machine.set(register::IRQ_CTRL, 5);
    let mut record = [0; 4];
    EventRecord::STREAM_ID.set(&mut record, 8);
    let Machine { events, world, .. } = &mut machine;
    let mut push = || events.lock().push(&record, |at, bytes| world.write(at, bytes));
    assert!(push().event, "one entry: empty, then full");
    for _ in 0..3 {
        assert_eq!(push(), Signal::default());
    }
    assert_eq!(machine.events.lock().counts(), (1, 3));
    assert_eq!(machine.read(register::EVENTQ_PROD), 1 << 31 | 1);
    machine.set(register::EVENTQ_CONS, 1 << 31 | 1);
    let Machine { events, world, .. } = &mut machine;
    assert!(events.lock().push(&record, |at, bytes| world.write(at, bytes)).event);
    assert_eq!(machine.read(register::EVENTQ_PROD), 1 << 31, "the flag stays as it is");
}

#[test]
fn an_event_queue_outside_memory_is_a_global_error() {
    let mut machine = machine();
    machine.set(register::EVENTQ_BASE, 0x9000_0003);
    machine.set(register::CR0, 4);
    machine.set(register::IRQ_CTRL, 5);
    let Machine { events, world, .. } = &mut machine;
    let signal = events.lock().push(&[0; 4], |at, bytes| world.write(at, bytes));
    assert_eq!(signal, Signal { event: false, error: true });
    assert_eq!(machine.read(register::GERROR), u64::from(register::EVENTQ_ABT_ERR));
}

#[test]
fn acknowledging_what_is_no_error_makes_none() {
    let mut machine = machine();
    machine.set(register::GERRORN, 0xffff_ffff);
    let active = machine.read(register::GERROR) ^ machine.read(register::GERRORN);
    assert_eq!(active, 0);
}

#[test]
fn a_reset_is_a_first_start() {
    let mut machine = Machine::nested();
    machine.send(&[[0xff, 0]]);
    machine.smmu.reset(&machine.events);
    let fresh = machine_of(identity(), &[(0, 8), (1, 16)]);
    for offset in (0..0xd0).chain(0x1_00a0..0x1_00b0).step_by(4) {
        assert_eq!(machine.read(offset), fresh.read(offset), "{offset:#x}");
    }
    assert!(!machine.smmu.is_nested(0));
    machine.prod = 0;
    machine.bring_up();
    machine.send(&[sync()]);
    assert_eq!(machine.read(register::CMDQ_CONS), 1);
}
