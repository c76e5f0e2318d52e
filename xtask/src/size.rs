//! `cargo xtask size`: text, data and bss per crate of the shipped QEMU binary, and of one with
//! every page-table format beside it.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SectionKind, elf};
use palisade_e2e::console::say;

use crate::cli::Board;
use crate::image::{all_formats_elf, hypervisor_elf};
use crate::setup;
use crate::workspace::Workspace;

/// Bytes, as Berkeley's size counts them: text is all that is loaded and never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sizes {
    text: u64,
    data: u64,
    bss: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Text,
    Data,
    Bss,
}

impl Sizes {
    fn slot(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Text => &mut self.text,
            Class::Data => &mut self.data,
            Class::Bss => &mut self.bss,
        }
    }

    fn sum(self) -> u64 {
        self.text + self.data + self.bss
    }
}

/// Prints the table.
pub fn size() -> Result<ExitCode> {
    setup::target()?;
    let workspace = Workspace::open()?;
    let path = hypervisor_elf(&workspace, Board::QemuVirt)?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (crates, total) = measure(&bytes)?;
    say(&format!("{:<28} {:>10} {:>10} {:>10}", "crate", "text", "data", "bss"));
    let mut rows: Vec<_> = crates.into_iter().collect();
    rows.sort_by_key(|(name, sizes)| (std::cmp::Reverse(sizes.sum()), name.clone()));
    for (name, Sizes { text, data, bss }) in rows {
        say(&format!("{name:<28} {text:>10} {data:>10} {bss:>10}"));
    }
    let path = all_formats_elf(&workspace)?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (_, all) = measure(&bytes)?;
    say(&format!("with all six page-table formats: {} {} {}", all.text, all.data, all.bss));
    say(&format!("total {} {} {}", total.text, total.data, total.bss));
    Ok(ExitCode::SUCCESS)
}

fn measure(bytes: &[u8]) -> Result<(BTreeMap<String, Sizes>, Sizes)> {
    let file = object::File::parse(bytes)?;
    let mut total = Sizes::default();
    let mut classes = HashMap::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        if sh_flags & u64::from(elf::SHF_ALLOC) == 0 {
            continue;
        }
        let written = sh_flags & u64::from(elf::SHF_WRITE) != 0;
        let class = match section.kind() {
            SectionKind::UninitializedData | SectionKind::UninitializedTls => Class::Bss,
            _ if written => Class::Data,
            _ => Class::Text,
        };
        *total.slot(class) += section.size();
        classes.insert(section.index(), class);
    }
    let mut crates: BTreeMap<String, Sizes> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for symbol in file.symbols() {
        let class = symbol.section_index().and_then(|index| classes.get(&index).copied());
        let Some(class) = class else { continue };
        // Two names for one place count once.
        if symbol.size() == 0 || seen.insert(symbol.address(), ()).is_some() {
            continue;
        }
        let name = owner(symbol.name().unwrap_or_default());
        *crates.entry(name).or_default().slot(class) += symbol.size();
    }
    let mut named = Sizes::default();
    for sizes in crates.values() {
        named.text += sizes.text;
        named.data += sizes.data;
        named.bss += sizes.bss;
    }
    // What no symbol covers: strings, constants without a name, padding, stacks.
    let rest = Sizes {
        text: total.text.saturating_sub(named.text),
        data: total.data.saturating_sub(named.data),
        bss: total.bss.saturating_sub(named.bss),
    };
    crates.insert("(constants, padding)".to_owned(), rest);
    Ok((crates, total))
}

/// The crate whose source a symbol comes from.
fn owner(symbol: &str) -> String {
    let plain = format!("{:#}", rustc_demangle::demangle(symbol));
    if plain == symbol && !symbol.starts_with("_R") && !symbol.starts_with("_ZN") {
        return "(assembly)".to_owned();
    }
    // `<a::B as c::D>::e`: the code is where the impl is, which is a's crate or c's; a primitive
    // or core type is nobody's, so the first crate of ours in the name wins.
    let words = plain.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let crates: Vec<&str> = words
        .filter(|word| word.contains("::"))
        .filter_map(|word| word.split("::").next())
        .collect();
    let ours = crates.iter().find(|name| name.starts_with("palisade_"));
    match ours.or(crates.iter().find(|name| !name.is_empty())) {
        Some(name) => name.replace('_', "-"),
        None => "(assembly)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn symbols_go_to_their_crates() {
        let names = [
            ("_ZN12palisade_mem6frames3new17h0123456789abcdefE", "palisade-mem"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core"),
            (
                "_ZN62_$LT$palisade_vm..exit..Exit$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE",
                "palisade-vm",
            ),
            ("memcpy", "(assembly)"),
        ];
        for (symbol, name) in names {
            assert_eq!(owner(symbol), name, "{symbol}");
        }
    }
}
