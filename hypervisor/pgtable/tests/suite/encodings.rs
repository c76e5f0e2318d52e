//! The words of every format, bit for bit: leaves of all kinds, table pointers and registers.
//! `encodings.txt` beside this file has them; `cargo xtask vectors` checks the same encoders
//! against independent numbers.

use std::fmt::Write;

use crate::common::{GRANULES, Machine, config, few};
use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{Config, FormatId, Prot, Quirks, SIZES_4K, View};

/// What is mapped, and what the words are called.
const PROTS: [(&str, Prot); 8] = [
    ("rw-cache", Prot::MEMORY),
    ("ro", Prot::READ),
    ("wo", Prot::WRITE),
    ("rwx-cache", Prot::RAM),
    ("rw-device", Prot::MMIO),
    ("ro-cache-priv", Prot::READ.union(Prot::CACHE).union(Prot::PRIV)),
    ("rw", Prot::READ.union(Prot::WRITE)),
    ("rwx-priv", Prot::READ.union(Prot::WRITE).union(Prot::EXEC).union(Prot::PRIV)),
];

/// Every configuration, by name.
fn configurations() -> Vec<(&'static str, Config)> {
    let s1 = config(FormatId::Arm64LpaeS1, SIZES_4K, 44, 48);
    let s2 = config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 44);
    let wide = |format| Config { lpa2: true, ..config(format, SIZES_4K, 52, 52) };
    let v7s = Config::new(FormatId::ArmV7s);
    let mtk = Quirks::NO_PERMS | Quirks::MTK_EXT;
    let mtk = Config { quirks: mtk, ias: 34, oas: 35, ..v7s };
    vec![
        ("s1", s1),
        ("s1 ns", Config { quirks: Quirks::NS, ..s1 }),
        ("s1 hd", Config { quirks: Quirks::HD, ..s1 }),
        ("s1 ttbr1", Config { quirks: Quirks::TTBR1, ..s1 }),
        ("s1 not coherent", Config { coherent_walk: false, ..s1 }),
        ("s1 outer wbwa", Config { coherent_walk: false, quirks: Quirks::OUTER_WBWA, ..s1 }),
        ("s1 16k", Config { pgsize_bitmap: GRANULES[1], ..s1 }),
        ("s1 64k 52", config(FormatId::Arm64LpaeS1, GRANULES[2], 52, 52)),
        ("s1 lpa2", wide(FormatId::Arm64LpaeS1)),
        ("s1 32", Config::new(FormatId::Arm32LpaeS1)),
        ("s2", s2),
        ("s2 fwb", Config { quirks: Quirks::S2FWB, ..s2 }),
        ("s2 dirty", Config { s2_dirty: true, ..s2 }),
        ("s2 cpu", Config::cpu_stage2(40, 44, true)),
        ("s2 cpu vmid8", Config::cpu_stage2(36, 40, false)),
        ("s2 not coherent", Config { coherent_walk: false, ..s2 }),
        ("s2 16k", Config { pgsize_bitmap: GRANULES[1], ..s2 }),
        ("s2 64k 52", config(FormatId::Arm64LpaeS2, GRANULES[2], 52, 52)),
        ("s2 lpa2", wide(FormatId::Arm64LpaeS2)),
        ("s2 view", Config { view: View::Iommu, ias: 48, oas: 48, ..s2 }),
        ("s2 32", Config::new(FormatId::Arm32LpaeS2)),
        ("mali", Config::new(FormatId::ArmMaliLpae)),
        (
            "mali not coherent",
            Config { coherent_walk: false, ..Config::new(FormatId::ArmMaliLpae) },
        ),
        ("v7s", v7s),
        ("v7s not coherent", Config { coherent_walk: false, ..v7s }),
        ("v7s ns", Config { quirks: Quirks::NS, ..v7s }),
        ("v7s no perms", Config { quirks: Quirks::NO_PERMS, ..v7s }),
        ("v7s mtk", mtk),
        ("v7s mtk ttbr", Config { quirks: mtk.quirks | Quirks::MTK_TTBR_EXT, ..mtk }),
    ]
}

fn lines() -> String {
    let mut text = String::new();
    for (name, config) in few(configurations()) {
        let machine = Machine::new(512);
        let mut table = machine.alloc(&config).unwrap();
        let upper = if config.quirks.contains(Quirks::TTBR1) { !0 << config.ias } else { 0 };
        writeln!(text, "{name}: {:x?}", table.registers()).unwrap();
        let top = 1u64 << config.oas;
        for (what, prot) in PROTS {
            write!(text, "  {what}:").unwrap();
            for size in crate::common::sizes(table.config()) {
                // High output bits, all of them somewhere.
                let pa = top / 2 + top / 16 + size;
                let pa = PhysAddr::new(pa & (top - 1) & !(size - 1));
                let iova = Iova::new(upper | size);
                if table.map_pages(iova, pa, size, 1, prot).is_err() {
                    write!(text, " -").unwrap();
                    continue;
                }
                let walk = table.walk(iova);
                assert_eq!(walk.leaf.unwrap().pa, pa);
                assert_eq!(table.iova_to_phys(iova), Some(pa));
                write!(text, " {:#x}", walk.leaf.unwrap().word).unwrap();
                machine.unmap(&mut *table, iova.get(), size, 1);
            }
            writeln!(text).unwrap();
        }
        let first = crate::common::sizes(table.config())[0];
        let iova = Iova::new(upper);
        table.map_pages(iova, PhysAddr::new(0), first, 1, Prot::MEMORY).unwrap();
        // Without the address: where tables are is the allocator's affair.
        let steps = table.walk(iova).steps.into_iter().flatten();
        let words = steps.map(|(_, _, word)| word & !0xffff_ffff_f000);
        let words: Vec<String> = words.map(|word| format!("{word:#x}")).collect();
        writeln!(text, "  walk: {}", words.join(" ")).unwrap();
        machine.free(table);
    }
    text
}

#[test]
fn every_word_is_as_written_down() {
    let found = lines();
    let wanted = include_str!("encodings.txt");
    for line in found.lines() {
        assert!(wanted.contains(line), "not written down: {line}");
    }
    assert!(cfg!(miri) || found == wanted, "{found}");
}
