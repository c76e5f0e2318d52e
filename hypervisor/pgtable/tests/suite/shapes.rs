//! Which tables there are: start levels, roots and sizes that a configuration leads to, and what is
//! refused, by whom and for what.

use palisade_hal::Iova;
use palisade_pgtable::{
    Config, ConfigError, FormatId, Quirks, SIZES_4K, SIZES_16K, SIZES_64K, View, alloc_in_frames,
};

use crate::common::{Machine, config, few, sizes};

/// Level of the root, and number of its tables.
fn shape(machine: &Machine, config: &Config) -> (i8, u64) {
    let table = machine.alloc(config).unwrap();
    let (level, ..) = table.walk(Iova::new(0)).steps[0].unwrap();
    let root = (machine.tables() << 12) / sizes(table.config())[0];
    machine.free(table);
    (level, root)
}

fn stage2(sizes: u64, bits: u8) -> Config {
    config(FormatId::Arm64LpaeS2, sizes, bits, bits)
}

#[test]
fn roots_concatenate_only_where_they_must() {
    let machine = Machine::new(1024);
    let rows = [
        (32, (1, 1), (2, 1), (2, 1)),
        (36, (1, 1), (2, 1), (2, 1)),
        (40, (1, 2), (2, 16), (2, 1)),
        (42, (1, 8), (1, 1), (2, 1)),
        (44, (0, 1), (1, 1), (1, 1)),
        (48, (0, 1), (1, 2), (1, 1)),
    ];
    for (bits, small, middle, large) in few(rows) {
        assert_eq!(shape(&machine, &stage2(SIZES_4K, bits)), small, "4K {bits}");
        assert_eq!(shape(&machine, &stage2(SIZES_16K, bits)), middle, "16K {bits}");
        assert_eq!(shape(&machine, &stage2(SIZES_64K, bits)), large, "64K {bits}");
    }
    assert_eq!(shape(&machine, &stage2(SIZES_64K, 52)), (1, 1));
    // A level above the one that the output size allows.
    assert_eq!(shape(&machine, &config(FormatId::Arm64LpaeS2, SIZES_64K, 43, 42)), (2, 2));
    assert_eq!(shape(&machine, &config(FormatId::Arm64LpaeS2, SIZES_64K, 43, 44)), (1, 1));
}

#[test]
fn the_cpu_view_goes_by_the_implemented_size() {
    let machine = Machine::new(256);
    let mut config = Config::cpu_stage2(40, 44, false);
    config.oas = 40;
    assert_eq!(shape(&machine, &config), (0, 1));
    config.view = View::Cpu { pa_bits: 40, vmid16: false };
    assert_eq!(shape(&machine, &config), (1, 2));
    let table = machine.alloc(&config).unwrap();
    let regs = table.registers().stage2().unwrap();
    assert_eq!((regs.sl0, regs.sl2), (1, false));
}

#[test]
fn lpa2_reaches_level_minus_one() {
    let machine = Machine::new(1024);
    let mut config = Config { lpa2: true, ..stage2(SIZES_4K | 1 << 39, 52) };
    assert_eq!(shape(&machine, &config), (-1, 1));
    let table = machine.alloc(&config).unwrap();
    let regs = table.registers().stage2().unwrap();
    assert_eq!((regs.sl0, regs.sl2), (0, true));
    assert_eq!(table.config().pgsize_bitmap, SIZES_4K | 1 << 39);
    machine.free(table);
    config.oas = 48;
    assert_eq!(shape(&machine, &config), (0, 16));
    // 16 KiB: level 0 is for 52 bits of output only.
    let mut config = Config { lpa2: true, ..stage2(SIZES_16K | 1 << 36, 52) };
    assert_eq!(shape(&machine, &config), (0, 1));
    (config.ias, config.oas) = (48, 48);
    assert_eq!(shape(&machine, &config), (1, 2));
}

#[test]
fn block_sizes_are_those_asked_for_that_there_are() {
    let machine = Machine::new(256);
    let found = |config: &Config| {
        let table = machine.alloc(config).unwrap();
        let found = table.config().pgsize_bitmap;
        machine.free(table);
        found
    };
    let all = u64::MAX;
    let only = |granule: u64| all & !(granule - 1);
    let s1 =
        |sizes, ias, oas, lpa2| Config { lpa2, ..config(FormatId::Arm64LpaeS1, sizes, ias, oas) };
    assert_eq!(found(&s1(all, 48, 48, false)), SIZES_4K);
    assert_eq!(found(&s1(all, 52, 52, true)), SIZES_4K | 1 << 39);
    assert_eq!(found(&s1(only(1 << 14), 48, 48, false)), SIZES_16K);
    assert_eq!(found(&s1(only(1 << 14), 52, 52, true)), SIZES_16K | 1 << 36);
    // 4 TiB are for 52-bit addresses.
    assert_eq!(found(&s1(only(1 << 16), 48, 48, false)), 1 << 16 | 1 << 29);
    assert_eq!(found(&s1(only(1 << 16), 52, 52, false)), SIZES_64K);
    // A size not asked for; a size whose level the table does not have.
    assert_eq!(found(&s1(1 << 12 | 1 << 30, 48, 48, false)), 1 << 12 | 1 << 30);
    assert_eq!(found(&s1(all, 30, 48, false)), 1 << 12 | 1 << 21);
    assert_eq!(found(&Config::new(FormatId::ArmMaliLpae)), SIZES_4K);
    let mali = config(FormatId::ArmMaliLpae, 1 << 12 | 1 << 39, 30, 40);
    assert_eq!(found(&mali), 1 << 12);
    let v7s = Config { pgsize_bitmap: all, ..Config::new(FormatId::ArmV7s) };
    assert_eq!(found(&v7s), 1 << 12 | 1 << 16 | 1 << 20 | 1 << 24);
}

#[test]
fn sizes_out_of_range_are_refused() {
    let machine = Machine::new(1024);
    let refused = |config: Config| machine.alloc(&config).err();
    let bits = |format, ias, oas| Config { ias, oas, ..Config::new(format) };
    use FormatId::*;
    // Least and most input bits, most output bits, without and with 52-bit descriptors.
    let limits = [
        (Arm64LpaeS1, 25, 52, 52),
        (Arm64LpaeS2, 25, 52, 52),
        (Arm32LpaeS1, 25, 32, 40),
        (Arm32LpaeS2, 25, 40, 40),
        (ArmMaliLpae, 25, 48, 40),
        (ArmV7s, 20, 32, 32),
    ];
    for (format, least, most, out) in limits {
        for ias in [least, most] {
            assert_eq!(refused(bits(format, ias, out)), None, "{format:?} {ias}");
        }
        for ias in [least - 1, most + 1, 0, 64, 255] {
            let why = Some(ConfigError::InputSize(format, ias));
            assert_eq!(refused(bits(format, ias, out)), why);
        }
        for oas in [0, 19, out + 1, 64, 255] {
            let why = Some(ConfigError::OutputSize(format, oas));
            assert_eq!(refused(bits(format, least, oas)), why);
        }
    }
    assert_eq!(refused(bits(ArmV7s, 20, 20)), None);
    for format in [Arm32LpaeS1, Arm32LpaeS2, ArmMaliLpae] {
        for oas in [32, 36, 40, 42, 44, 48, 52] {
            let why = (oas > 40).then_some(ConfigError::OutputSize(format, oas));
            assert_eq!(refused(bits(format, 32, oas)), why, "{format:?} {oas}");
        }
    }
    // Sizes that only some have.
    for oas in [32, 36, 40, 42, 44, 48, 52] {
        assert_eq!(refused(bits(Arm64LpaeS1, 32, oas)), None);
    }
    for oas in [31, 33, 37, 41, 43, 45, 47, 49, 51] {
        let why = Some(ConfigError::OutputSize(Arm64LpaeS1, oas));
        assert_eq!(refused(config(Arm64LpaeS1, SIZES_64K, 32, oas)), why);
    }
    // More roots than 16 cannot be concatenated.
    let many = Some(ConfigError::InputSize(Arm64LpaeS2, 48));
    assert_eq!(refused(bits(Arm64LpaeS2, 48, 40)), many);
    let mut mtk = bits(ArmV7s, 34, 35);
    mtk.quirks = Quirks::MTK_EXT | Quirks::NO_PERMS;
    assert_eq!(refused(mtk), None);
    mtk.ias = 35;
    assert_eq!(refused(mtk), Some(ConfigError::InputSize(ArmV7s, 35)));
    (mtk.ias, mtk.oas) = (34, 36);
    assert_eq!(refused(mtk), Some(ConfigError::OutputSize(ArmV7s, 36)));
}

#[test]
fn granules_that_a_format_lacks_are_refused() {
    let machine = Machine::new(256);
    for format in FormatId::ALL {
        let lacking = |sizes| {
            let config = Config { pgsize_bitmap: sizes, ias: 32, ..Config::new(format) };
            let why = ConfigError::PageSizes(format, sizes);
            assert_eq!(machine.alloc(&config).err(), Some(why));
        };
        lacking(0);
        lacking(1 << 13 | 1 << 21);
        if !matches!(format, FormatId::Arm64LpaeS1 | FormatId::Arm64LpaeS2 | FormatId::ArmV7s) {
            lacking(SIZES_16K);
            lacking(SIZES_64K);
        }
    }
    let small = |config: &Config| alloc_in_frames(config, machine.memory.clone()).err();
    let mut config = stage2(SIZES_16K, 40);
    let why = ConfigError::PageSizes(FormatId::Arm64LpaeS2, SIZES_16K);
    assert_eq!(small(&config), Some(why));
    config.pgsize_bitmap = SIZES_4K;
    assert_eq!(small(&config), None);
    config.lpa2 = true;
    assert_eq!(small(&config), Some(ConfigError::Option(FormatId::Arm64LpaeS2)));
    for format in FormatId::ALL.into_iter().filter(|&format| format != FormatId::Arm64LpaeS2) {
        assert_eq!(small(&Config::new(format)), Some(ConfigError::Unregistered(format)));
    }
}

#[test]
fn options_that_a_format_lacks_are_refused() {
    let machine = Machine::new(256);
    use FormatId::*;
    for format in FormatId::ALL {
        let plain = Config::new(format);
        let refused = |config: Config| match machine.alloc(&config) {
            Ok(table) => {
                machine.free(table);
                false
            }
            Err(error) => {
                assert_eq!(error, ConfigError::Option(format));
                true
            }
        };
        let long = matches!(format, Arm64LpaeS1 | Arm64LpaeS2);
        assert!(!refused(plain));
        assert_eq!(refused(Config { lpa2: true, ..plain }), !long);
        assert_eq!(refused(Config { contiguous: true, ..plain }), !long);
        assert_eq!(refused(Config { s2_dirty: true, ..plain }), format != Arm64LpaeS2);
        if long {
            let sizes = SIZES_64K;
            assert!(refused(Config { lpa2: true, pgsize_bitmap: sizes, ..plain }));
        }
    }
}

#[test]
fn quirks_that_a_format_lacks_are_refused() {
    let machine = Machine::new(256);
    use FormatId::*;
    for format in FormatId::ALL {
        for quirk in Quirks::all().iter() {
            let known = match format {
                Arm64LpaeS1 | Arm32LpaeS1 => {
                    Quirks::NS | Quirks::TTBR1 | Quirks::OUTER_WBWA | Quirks::HD | Quirks::NO_WARN
                }
                Arm64LpaeS2 | Arm32LpaeS2 => Quirks::S2FWB | Quirks::NO_WARN,
                ArmV7s => Quirks::NS | Quirks::NO_PERMS | Quirks::MTK_EXT | Quirks::MTK_TTBR_EXT,
                ArmMaliLpae => Quirks::empty(),
            };
            // What goes only with something else.
            let mut config = Config { quirks: quirk, ..Config::new(format) };
            let alone = match quirk {
                Quirks::OUTER_WBWA => {
                    let refused = machine.alloc(&config).err();
                    assert_eq!(refused, Some(ConfigError::Quirks(format, quirk)));
                    config.coherent_walk = false;
                    true
                }
                Quirks::MTK_EXT | Quirks::MTK_TTBR_EXT => false,
                _ => true,
            };
            let refused = machine.alloc(&config).err();
            let expected = !known.contains(quirk) || !alone;
            let why = expected.then_some(ConfigError::Quirks(format, quirk));
            assert_eq!(refused, why, "{format:?} {quirk:?}");
        }
    }
    let v7s = |quirks| machine.alloc(&Config { quirks, ..Config::new(ArmV7s) }).is_ok();
    assert!(v7s(Quirks::MTK_EXT | Quirks::NO_PERMS));
    assert!(v7s(Quirks::MTK_TTBR_EXT | Quirks::MTK_EXT | Quirks::NO_PERMS));
    assert!(!v7s(Quirks::MTK_TTBR_EXT | Quirks::NO_PERMS));
    assert!(!v7s(Quirks::MTK_TTBR_EXT | Quirks::MTK_EXT));
}
