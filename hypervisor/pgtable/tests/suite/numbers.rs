//! Numbers that others rely on: registers whole, page sizes, names and classes of errors.

use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{
    Config, Error, FormatId, Quirks, SIZES_4K, SIZES_16K, SIZES_64K, Stage1Regs, Stage2Regs,
    TlbError, View,
};

use crate::common::{Machine, config};

fn stage1(config: &Config) -> Stage1Regs {
    let machine = Machine::new(64);
    let table = machine.alloc(config).unwrap();
    assert!(table.registers().stage2().is_none());
    *table.registers().stage1().unwrap()
}

fn stage2(config: &Config) -> Stage2Regs {
    let machine = Machine::new(64);
    let table = machine.alloc(config).unwrap();
    assert!(table.registers().stage1().is_none());
    *table.registers().stage2().unwrap()
}

/// TCR_EL1 (D24.2.211): T0SZ 5:0, IRGN0 9:8, ORGN0 11:10, SH0 13:12, TG0 15:14, the same 16 bits
/// higher for TTBR1, EPD0 7, EPD1 23, IPS 34:32, DS 59.
#[test]
fn tcr_is_whole() {
    let s1 = |sizes| config(FormatId::Arm64LpaeS1, sizes, 40, 44);
    let upper = |sizes| Config { quirks: Quirks::TTBR1, ..s1(sizes) };
    let rows = [
        (s1(SIZES_4K), 0x3518, 0x4_0080_3518),
        (s1(SIZES_16K), 0xb518, 0x4_0080_b518),
        (s1(SIZES_64K), 0x7518, 0x4_0080_7518),
        (upper(SIZES_4K), 0xb518, 0x4_b518_0080),
        (upper(SIZES_16K), 0x7518, 0x4_7518_0080),
        (upper(SIZES_64K), 0xf518, 0x4_f518_0080),
        (Config { coherent_walk: false, ..s1(SIZES_4K) }, 0x2018, 0x4_0080_2018),
        (
            Config { lpa2: true, ..config(FormatId::Arm64LpaeS1, SIZES_4K, 52, 52) },
            0x350c,
            0x0800_0006_0080_350c,
        ),
    ];
    for (config, low, whole) in rows {
        let regs = stage1(&config);
        assert_eq!((regs.tcr_low(), regs.tcr()), (low, whole), "{config:?}");
        assert_eq!(regs.mair, 0xf404_ff44);
    }
}

/// VTCR_EL2 (D24.2.224): T0SZ 5:0, SL0 7:6, IRGN0 9:8, ORGN0 11:10, SH0 13:12, TG0 15:14,
/// PS 18:16, VS 19, HA 21, HD 22, RES1 31, DS 32, SL2 33.
#[test]
fn vtcr_is_whole() {
    let s2 = |sizes, oas| config(FormatId::Arm64LpaeS2, sizes, 40, oas);
    let small = s2(SIZES_4K, 40);
    let cpu = |vmid16| Config { view: View::Cpu { pa_bits: 40, vmid16 }, ..small };
    let rows = [
        (small, 0x2_3558, 0x2_3558),
        (s2(SIZES_16K, 44), 0x4_b598, 0x4_b598),
        (s2(SIZES_64K, 44), 0x4_7558, 0x4_7558),
        (Config { coherent_walk: false, ..small }, 0x2_2058, 0x2_2058),
        (Config { s2_dirty: true, ..small }, 0x2_3558, 0x62_3558),
        (cpu(false), 0x2_3558, 0x8002_3558),
        (cpu(true), 0x2_3558, 0x800a_3558),
        (
            Config { lpa2: true, ..config(FormatId::Arm64LpaeS2, SIZES_4K, 52, 52) },
            0x6_350c,
            0x3_0006_350c,
        ),
    ];
    for (config, packed, whole) in rows {
        let regs = stage2(&config);
        assert_eq!((u64::from(regs.packed()), regs.vtcr), (packed, whole), "{config:?}");
    }
}

#[test]
fn other_formats_have_registers_of_their_own() {
    let machine = Machine::new(64);
    for format in [FormatId::ArmV7s, FormatId::ArmMaliLpae] {
        let table = machine.alloc(&Config::new(format)).unwrap();
        let registers = table.registers();
        assert!(registers.stage1().is_none() && registers.stage2().is_none());
    }
}

#[test]
fn sizes_and_names() {
    assert_eq!((SIZES_4K, SIZES_16K, SIZES_64K), (0x4020_1000, 0x200_4000, 0x400_2001_0000));
    let names = [
        "arm-32-lpae-s1",
        "arm-32-lpae-s2",
        "arm-64-lpae-s1",
        "arm-64-lpae-s2",
        "arm-v7s",
        "arm-mali-lpae",
    ];
    for (nth, (format, name)) in FormatId::ALL.into_iter().zip(names).enumerate() {
        assert_eq!((format as usize, format.name()), (nth, name));
    }
    let bits = |format| {
        let config = Config::new(format);
        (config.ias, config.oas, config.pgsize_bitmap)
    };
    assert_eq!(
        FormatId::ALL.map(bits),
        [
            (32, 40, 0x4020_1000),
            (40, 40, 0x4020_1000),
            (48, 48, 0x80_4020_1000),
            (48, 48, 0x80_4020_1000),
            (32, 32, 0x111_1000),
            (48, 40, 0x4020_1000),
        ]
    );
}

#[test]
fn where_hardware_records_writes() {
    for format in FormatId::ALL {
        let plain = Config::new(format);
        let stage1 = matches!(format, FormatId::Arm64LpaeS1 | FormatId::Arm32LpaeS1);
        let stage2 = format == FormatId::Arm64LpaeS2;
        assert!(!plain.tracks_dirty());
        assert_eq!(Config { quirks: Quirks::HD, ..plain }.tracks_dirty(), stage1);
        assert_eq!(Config { s2_dirty: true, ..plain }.tracks_dirty(), stage2);
    }
}

#[test]
fn errors_have_their_numbers() {
    let (iova, pa) = (Iova::new(0), PhysAddr::new(0));
    let rows = [
        (Error::PageSize(0), -22),
        (Error::Unaligned(iova), -22),
        (Error::NoPermission(iova), -22),
        (Error::PartialBlock(iova), -22),
        (Error::NotUniform(iova), -22),
        (Error::Refused(iova), -22),
        (Error::Unsupported, -22),
        (Error::InputRange(iova), -34),
        (Error::OutputRange(pa), -34),
        (Error::Exists(iova), -17),
        (Error::NoMemory(iova), -12),
        (Error::Corrupt { iova, level: 1, word: 2 }, -5),
        (Error::Tlb(TlbError { agent: "test" }), -5),
    ];
    for (error, number) in rows {
        assert_eq!(error.errno(), number, "{error}");
    }
}
