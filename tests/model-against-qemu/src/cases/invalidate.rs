//! A structure changes, the command for it follows: from then on only the new counts (4.3, 4.4).

use crate::cases::nested::{ADDRESS as NESTED_ADDRESS, Both};
use crate::cases::{stage1, stage2};
use crate::scene::{Plan, Scene};
use crate::tables::{GRANULES, READ_ONLY, S2_WRITE, STAGE_1, STAGE_2, granule_name};
use crate::words::{self, plain};

/// Commands (4.1.2), with the stream, the VMID and the ASID of a case.
type Command = fn(&Scene, u64) -> [u64; 2];

fn vmid(scene: &Scene) -> u64 {
    (scene.slot as u64 + 1) << 32
}

fn asid(scene: &Scene) -> u64 {
    (scene.slot as u64 + 1) << 48
}

fn stream(scene: &Scene) -> u64 {
    u64::from(scene.stream()) << 32
}

/// Leaf = 1 in bit 0, the address above.
const LEAF: u64 = 1;

/// A range command, for the 32 pages around [`ADDRESS`]: NUM 31, SCALE 0, and TG 1, 2, 3 for 4K,
/// 16K, 64K (4.4.1.1).
fn by_range(command: u64, granule: u32) -> [u64; 2] {
    let tg = u64::from(granule - 10) / 2;
    [command | 31 << 12, ADDRESS & !((32 << granule) - 1) | tg << 10]
}

/// What forgets a translation of stage 1 alone, whose VMID is 0 in the STE.
const STAGE_1_COMMANDS: [(&str, Command); 6] = [
    ("CMD_TLBI_NH_ALL", |_, _| [0x10, 0]),
    ("CMD_TLBI_NH_ASID", |scene, _| [0x11 | asid(scene), 0]),
    ("CMD_TLBI_NH_VA", |scene, va| [0x12 | asid(scene), va]),
    ("CMD_TLBI_NH_VA, Leaf", |scene, va| [0x12 | asid(scene), va | LEAF]),
    ("CMD_TLBI_NH_VAA", |_, va| [0x13, va]),
    ("CMD_TLBI_NSNH_ALL", |_, _| [0x30, 0]),
];

/// What forgets a translation of stage 2.
const STAGE_2_COMMANDS: [(&str, Command); 4] = [
    ("CMD_TLBI_S12_VMALL", |scene, _| [0x28 | vmid(scene), 0]),
    ("CMD_TLBI_S2_IPA", |scene, ipa| [0x2a | vmid(scene), ipa]),
    ("CMD_TLBI_S2_IPA, Leaf", |scene, ipa| [0x2a | vmid(scene), ipa | LEAF]),
    ("CMD_TLBI_NSNH_ALL", |_, _| [0x30, 0]),
];

/// An address whose mapping changes.
const ADDRESS: u64 = 0x3_4560_0000;

/// The cases.
pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for granule in GRANULES {
        let name = granule_name(granule);
        for (what, command) in STAGE_1_COMMANDS {
            plans.push(Plan::new(format!("{what}, stage 1, {name}"), move |scene| {
                first(scene, granule, |scene| vec![command(scene, ADDRESS)]);
            }));
        }
        plans.push(Plan::new(format!("CMD_TLBI_NH_VA by range, {name}"), move |scene| {
            first(scene, granule, |scene| vec![by_range(0x12 | asid(scene), granule)]);
        }));
        for (what, command) in STAGE_2_COMMANDS {
            plans.push(Plan::new(format!("{what}, stage 2, {name}"), move |scene| {
                second(scene, granule, |scene| vec![command(scene, ADDRESS)]);
            }));
        }
        plans.push(Plan::new(format!("CMD_TLBI_S2_IPA by range, {name}"), move |scene| {
            second(scene, granule, |scene| vec![by_range(0x2a | vmid(scene), granule)]);
        }));
        // Changes of stage 2 beneath a combined entry need stage 1's commands as well (4.4).
        plans.push(Plan::new(format!("stage 2 beneath stage 1, {name}"), move |scene| {
            let both = Both::new(scene, granule, granule);
            let (one, two) = (scene.target(16), scene.target(32));
            both.map(scene, NESTED_ADDRESS, 3, one, STAGE_1);
            scene.both(NESTED_ADDRESS);
            scene.later(|scene| both.lead(scene, one, two));
            let ipa = both.intermediate(one);
            let tag = vmid(scene);
            scene.command(&[[0x2a | tag, ipa], [0x46, 0], [0x10 | tag, 0]]);
            scene.both(NESTED_ADDRESS);
            scene.later(|scene| both.lead(scene, one, one));
            scene.command(&[[0x28 | tag, 0]]);
            scene.both(NESTED_ADDRESS);
        }));
    }
    configuration(&mut plans);
    plans
}

/// Page to another page, to read-only, to nothing and back, under stage 1.
fn first(scene: &mut Scene, granule: u32, commands: impl Fn(&Scene) -> Vec<[u64; 2]>) {
    let stage = stage1::simple(scene, granule, 39);
    let (one, two) = (scene.target(16), scene.target(32));
    stage.map(scene, ADDRESS, 3, one, STAGE_1);
    scene.both(ADDRESS);
    for (output, attributes) in
        [(two, STAGE_1), (two, STAGE_1 | READ_ONLY), (two, 0), (one, STAGE_1)]
    {
        scene.later(|scene| {
            stage.map(scene, ADDRESS, 3, output, attributes);
        });
        let commands = commands(scene);
        scene.command(&commands);
        // The write goes first: from the TLB, QEMU would refuse it without a record.
        scene.write(ADDRESS);
        scene.read(ADDRESS);
    }
}

/// The same under stage 2.
fn second(scene: &mut Scene, granule: u32, commands: impl Fn(&Scene) -> Vec<[u64; 2]>) {
    let (start, bits) = match granule {
        12 => (1, 39),
        14 => (2, 36),
        _ => (2, 39),
    };
    let stage = stage2::simple(scene, granule, bits, start);
    let (one, two) = (scene.target(16), scene.target(32));
    stage.map(scene, ADDRESS, 3, one, STAGE_2);
    scene.both(ADDRESS);
    for (output, attributes) in
        [(two, STAGE_2), (two, STAGE_2 ^ S2_WRITE), (two, 0), (one, STAGE_2)]
    {
        scene.later(|scene| {
            stage.map(scene, ADDRESS, 3, output, attributes);
        });
        let commands = commands(scene);
        scene.command(&commands);
        scene.write(ADDRESS);
        scene.read(ADDRESS);
    }
}

/// STE and CD change.
fn configuration(plans: &mut Vec<Plan>) {
    let commands: [(&str, Command); 3] = [
        ("CMD_CFGI_STE", |scene, _| [0x03 | stream(scene), 1]),
        ("CMD_CFGI_STE_RANGE", |scene, _| [0x04 | stream(scene), 2]),
        ("CMD_CFGI_ALL", |_, _| [0x04, 31]),
    ];
    for (what, command) in commands {
        plans.push(Plan::new(
            format!("{what}, abort to stage 2 to bypass to abort"),
            move |scene| {
                let stage = stage2::simple(scene, 12, 39, 1);
                let whole = scene.ste;
                let output = scene.target(16);
                stage.map(scene, ADDRESS, 3, output, STAGE_2);
                scene.ste = plain(words::ABORT);
                for (ste, address) in [
                    (whole, ADDRESS),
                    (plain(words::BYPASS), output),
                    (plain(words::ABORT), output),
                    ([0; 8], output),
                ] {
                    scene.both(address);
                    scene.change_ste(&ste);
                    let command = command(scene, 0);
                    scene.command(&[command]);
                }
                scene.both(output);
            },
        ));
    }
    let commands: [(&str, Command); 3] = [
        ("CMD_CFGI_CD", |scene, _| [0x05 | stream(scene), 1]),
        ("CMD_CFGI_CD_ALL", |scene, _| [0x06 | stream(scene), 0]),
        ("CMD_CFGI_STE", |scene, _| [0x03 | stream(scene), 1]),
    ];
    for (what, command) in commands {
        plans.push(Plan::new(format!("{what}, CD valid to invalid and back"), move |scene| {
            let stage = stage1::simple(scene, 12, 39);
            let output = scene.target(16);
            stage.map(scene, ADDRESS, 3, output, STAGE_1);
            for flip in [words::CD_V, words::CD_V, words::EPD0, words::EPD0] {
                scene.both(ADDRESS);
                scene.later(|scene| stage1::change_cd(scene, |word| word ^ flip));
                let command = command(scene, 0);
                scene.command(&[command, [0x10, 0]]);
            }
            scene.both(ADDRESS);
        }));
    }
}
