//! The decoder, against an assembler's words and against the manual's own diagrams.
extern crate std;

use std::collections::BTreeMap;

use super::decode::*;
use crate::mmio::Width;

const LOAD: bool = true;
const STORE: bool = false;
/// Sign extended or not, into how many bits.
const U32: (bool, bool) = (false, false);
const U64: (bool, bool) = (false, true);
const S32: (bool, bool) = (true, false);
const S64: (bool, bool) = (true, true);

fn t(
    load: bool,
    (signed, wide): (bool, bool),
    width: Width,
    (first, second): (u8, Option<u8>),
    base: Base,
    offset: Offset,
    writeback: Writeback,
) -> Transfer {
    Transfer { load, width, signed, wide, first, second, base, offset, writeback }
}

#[test]
fn words_of_an_assembler() {
    let rows = [
        (
            0xb8004443,
            "str w3, [x2], #4",
            t(
                STORE,
                U32,
                Width::Bits32,
                (3, None),
                Base::Register(2),
                Offset::Immediate(4),
                Writeback::After,
            ),
        ),
        (
            0xb81fcc43,
            "str w3, [x2, #-4]!",
            t(
                STORE,
                U32,
                Width::Bits32,
                (3, None),
                Base::Register(2),
                Offset::Immediate(-4),
                Writeback::Before,
            ),
        ),
        (
            0xf84107e1,
            "ldr x1, [sp], #16",
            t(
                LOAD,
                U64,
                Width::Bits64,
                (1, None),
                Base::Register(31),
                Offset::Immediate(16),
                Writeback::After,
            ),
        ),
        (
            0xf8500fe1,
            "ldr x1, [sp, #-256]!",
            t(
                LOAD,
                U64,
                Width::Bits64,
                (1, None),
                Base::Register(31),
                Offset::Immediate(-256),
                Writeback::Before,
            ),
        ),
        (
            0x380ff7c0,
            "strb w0, [x30], #255",
            t(
                STORE,
                U32,
                Width::Bits8,
                (0, None),
                Base::Register(30),
                Offset::Immediate(255),
                Writeback::After,
            ),
        ),
        (
            0x38801507,
            "ldrsb x7, [x8], #1",
            t(
                LOAD,
                S64,
                Width::Bits8,
                (7, None),
                Base::Register(8),
                Offset::Immediate(1),
                Writeback::After,
            ),
        ),
        (
            0x38c01507,
            "ldrsb w7, [x8], #1",
            t(
                LOAD,
                S32,
                Width::Bits8,
                (7, None),
                Base::Register(8),
                Offset::Immediate(1),
                Writeback::After,
            ),
        ),
        (
            0x78802d07,
            "ldrsh x7, [x8, #2]!",
            t(
                LOAD,
                S64,
                Width::Bits16,
                (7, None),
                Base::Register(8),
                Offset::Immediate(2),
                Writeback::Before,
            ),
        ),
        (
            0xb89fcd07,
            "ldrsw x7, [x8, #-4]!",
            t(
                LOAD,
                S64,
                Width::Bits32,
                (7, None),
                Base::Register(8),
                Offset::Immediate(-4),
                Writeback::Before,
            ),
        ),
        (
            0x7840251f,
            "ldrh wzr, [x8], #2",
            t(
                LOAD,
                U32,
                Width::Bits16,
                (31, None),
                Base::Register(8),
                Offset::Immediate(2),
                Writeback::After,
            ),
        ),
        (
            0x29000861,
            "stp w1, w2, [x3]",
            t(
                STORE,
                U32,
                Width::Bits32,
                (1, Some(2)),
                Base::Register(3),
                Offset::Immediate(0),
                Writeback::None,
            ),
        ),
        (
            0xa9a00861,
            "stp x1, x2, [x3, #-512]!",
            t(
                STORE,
                U64,
                Width::Bits64,
                (1, Some(2)),
                Base::Register(3),
                Offset::Immediate(-512),
                Writeback::Before,
            ),
        ),
        (
            0xa8df8be1,
            "ldp x1, x2, [sp], #504",
            t(
                LOAD,
                U64,
                Width::Bits64,
                (1, Some(2)),
                Base::Register(31),
                Offset::Immediate(504),
                Writeback::After,
            ),
        ),
        (
            0x295f8861,
            "ldp w1, w2, [x3, #252]",
            t(
                LOAD,
                U32,
                Width::Bits32,
                (1, Some(2)),
                Base::Register(3),
                Offset::Immediate(252),
                Writeback::None,
            ),
        ),
        (
            0x69600861,
            "ldpsw x1, x2, [x3, #-256]",
            t(
                LOAD,
                S64,
                Width::Bits32,
                (1, Some(2)),
                Base::Register(3),
                Offset::Immediate(-256),
                Writeback::None,
            ),
        ),
        (
            0xa8017c61,
            "stnp x1, xzr, [x3, #16]",
            t(
                STORE,
                U64,
                Width::Bits64,
                (1, Some(31)),
                Base::Register(3),
                Offset::Immediate(16),
                Writeback::None,
            ),
        ),
        (
            0x28400861,
            "ldnp w1, w2, [x3]",
            t(
                LOAD,
                U32,
                Width::Bits32,
                (1, Some(2)),
                Base::Register(3),
                Offset::Immediate(0),
                Writeback::None,
            ),
        ),
        (
            0xf8008841,
            "sttr x1, [x2, #8]",
            t(
                STORE,
                U64,
                Width::Bits64,
                (1, None),
                Base::Register(2),
                Offset::Immediate(8),
                Writeback::None,
            ),
        ),
        (
            0x385ff841,
            "ldtrb w1, [x2, #-1]",
            t(
                LOAD,
                U32,
                Width::Bits8,
                (1, None),
                Base::Register(2),
                Offset::Immediate(-1),
                Writeback::None,
            ),
        ),
        (
            0xb8800841,
            "ldtrsw x1, [x2]",
            t(
                LOAD,
                S64,
                Width::Bits32,
                (1, None),
                Base::Register(2),
                Offset::Immediate(0),
                Writeback::None,
            ),
        ),
        (
            0xf85fd041,
            "ldur x1, [x2, #-3]",
            t(
                LOAD,
                U64,
                Width::Bits64,
                (1, None),
                Base::Register(2),
                Offset::Immediate(-3),
                Writeback::None,
            ),
        ),
        (
            0x78003041,
            "sturh w1, [x2, #3]",
            t(
                STORE,
                U32,
                Width::Bits16,
                (1, None),
                Base::Register(2),
                Offset::Immediate(3),
                Writeback::None,
            ),
        ),
        (
            0xf97ffc41,
            "ldr x1, [x2, #32760]",
            t(
                LOAD,
                U64,
                Width::Bits64,
                (1, None),
                Base::Register(2),
                Offset::Immediate(32760),
                Writeback::None,
            ),
        ),
        (
            0x393ffc41,
            "strb w1, [x2, #4095]",
            t(
                STORE,
                U32,
                Width::Bits8,
                (1, None),
                Base::Register(2),
                Offset::Immediate(4095),
                Writeback::None,
            ),
        ),
        (
            0xb98007e1,
            "ldrsw x1, [sp, #4]",
            t(
                LOAD,
                S64,
                Width::Bits32,
                (1, None),
                Base::Register(31),
                Offset::Immediate(4),
                Writeback::None,
            ),
        ),
        (
            0xf8636841,
            "ldr x1, [x2, x3]",
            t(
                LOAD,
                U64,
                Width::Bits64,
                (1, None),
                Base::Register(2),
                Offset::Register { index: 3, option: 3, shift: 0 },
                Writeback::None,
            ),
        ),
        (
            0xf8637841,
            "ldr x1, [x2, x3, lsl #3]",
            t(
                LOAD,
                U64,
                Width::Bits64,
                (1, None),
                Base::Register(2),
                Offset::Register { index: 3, option: 3, shift: 3 },
                Writeback::None,
            ),
        ),
        (
            0xb8235841,
            "str w1, [x2, w3, uxtw #2]",
            t(
                STORE,
                U32,
                Width::Bits32,
                (1, None),
                Base::Register(2),
                Offset::Register { index: 3, option: 2, shift: 2 },
                Writeback::None,
            ),
        ),
        (
            0x78a3c841,
            "ldrsh x1, [x2, w3, sxtw]",
            t(
                LOAD,
                S64,
                Width::Bits16,
                (1, None),
                Base::Register(2),
                Offset::Register { index: 3, option: 6, shift: 0 },
                Writeback::None,
            ),
        ),
        (
            0x3823e841,
            "strb w1, [x2, x3, sxtx]",
            t(
                STORE,
                U32,
                Width::Bits8,
                (1, None),
                Base::Register(2),
                Offset::Register { index: 3, option: 7, shift: 0 },
                Writeback::None,
            ),
        ),
        (
            0x18000081,
            "ldr w1, .+16",
            t(
                LOAD,
                U32,
                Width::Bits32,
                (1, None),
                Base::Literal,
                Offset::Immediate(16),
                Writeback::None,
            ),
        ),
        (
            0x58800001,
            "ldr x1, .-1048576",
            t(
                LOAD,
                U64,
                Width::Bits64,
                (1, None),
                Base::Literal,
                Offset::Immediate(-1048576),
                Writeback::None,
            ),
        ),
        (
            0x987fffe1,
            "ldrsw x1, .+1048572",
            t(
                LOAD,
                S64,
                Width::Bits32,
                (1, None),
                Base::Literal,
                Offset::Immediate(1048572),
                Writeback::None,
            ),
        ),
        (
            0xa9810441,
            "stp x1, x1, [x2, #16]!",
            t(
                STORE,
                U64,
                Width::Bits64,
                (1, Some(1)),
                Base::Register(2),
                Offset::Immediate(16),
                Writeback::Before,
            ),
        ),
        (
            0xf81f0fff,
            "str xzr, [sp, #-16]!",
            t(
                STORE,
                U64,
                Width::Bits64,
                (31, None),
                Base::Register(31),
                Offset::Immediate(-16),
                Writeback::Before,
            ),
        ),
    ];
    for (word, text, transfer) in rows {
        assert_eq!(decode(word), Ok(transfer), "{word:#010x} {text}");
    }
}

/// The forms that are carried out (C4.1.94), by the fields in the manual's order; x is any bit.
const FORMS: [&str; 11] = [
    "xx111000xx0xxxxxxxxx00xxxxxxxxxx",
    "xx111000xx0xxxxxxxxx01xxxxxxxxxx",
    "xx111000xx0xxxxxxxxx10xxxxxxxxxx",
    "xx111000xx0xxxxxxxxx11xxxxxxxxxx",
    "xx111000xx1xxxxxx1xx10xxxxxxxxxx",
    "xx111001xxxxxxxxxxxxxxxxxxxxxxxx",
    "xx011000xxxxxxxxxxxxxxxxxxxxxxxx",
    "xx1010000xxxxxxxxxxxxxxxxxxxxxxx",
    "xx1010001xxxxxxxxxxxxxxxxxxxxxxx",
    "xx1010010xxxxxxxxxxxxxxxxxxxxxxx",
    "xx1010011xxxxxxxxxxxxxxxxxxxxxxx",
];

/// Which bits of a form are given, and as what.
fn given(form: &str) -> (u32, u32) {
    form.bytes().fold((0, 0), |(mask, value), bit| match bit {
        b'x' => (mask << 1, value << 1),
        _ => (mask << 1 | 1, value << 1 | u32::from(bit - b'0')),
    })
}

/// Whether the manual's table of that form has a load or store of general registers.
fn allocated(word: u32, form: usize) -> bool {
    let (size, opc) = (word >> 30, word >> 22 & 3);
    match form {
        0..=5 => !matches!((size, opc), (3, 2 | 3) | (2, 3)),
        6 => size != 3,
        // No-allocate pairs have no sign-extending form.
        7 => size == 0 || size == 2,
        _ => size == 0 || size == 2 || size == 1 && opc & 1 == 1,
    }
}

/// The manual's "CONSTRAINED UNPREDICTABLE" cases.
fn unpredictable(word: u32, form: usize) -> bool {
    let (t, n, t2) = (word & 31, word >> 5 & 31, word >> 10 & 31);
    let writes_back = matches!(form, 1 | 3 | 8 | 10);
    let pair = form >= 7;
    let load = word >> 22 & 1 == 1;
    writes_back && n != 31 && (t == n || pair && t2 == n) || pair && load && t == t2
}

#[test]
fn every_form_of_the_manual_and_no_other() {
    let forms = FORMS.map(given);
    let mut seen = BTreeMap::new();
    for high in 0..1u32 << 11 {
        for middle in 0..1 << 6 {
            for low in [0, 0x21, 0x3e0, 0x3ff, 0x155] {
                for m in [0, 31] {
                    let word = high << 21 | m << 16 | middle << 10 | low;
                    let form = forms.iter().position(|form| word & form.0 == form.1);
                    let wanted = form
                        .is_some_and(|form| allocated(word, form) && !unpredictable(word, form));
                    let got = decode(word);
                    assert_eq!(got.is_ok(), wanted, "{word:#010x} {got:?}");
                    let Ok(transfer) = got else { continue };
                    *seen.entry(form).or_insert(0) += 1;
                    assert_eq!(u32::from(transfer.first), word & 31);
                    let base = Base::Register((word >> 5 & 31) as u8);
                    assert_eq!(transfer.base == base, form != Some(6), "{word:#010x}");
                    assert_eq!(transfer.second.is_some(), form >= Some(7), "{word:#010x}");
                }
            }
        }
    }
    assert_eq!(seen.len(), FORMS.len(), "every form was met");
}
