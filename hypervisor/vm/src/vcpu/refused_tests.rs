//! Loads and stores that are not carried out, each by its name.

use super::decode::*;

#[test]
fn what_is_refused_has_its_name() {
    let rows = [
        (0xf9800040, PREFETCH, "prfm pldl1keep, [x2]"),
        (0xd8000040, PREFETCH, "prfm pldl1keep, .+8"),
        (0xf8a36840, PREFETCH, "prfm pldl1keep, [x2, x3]"),
        (0xf8801040, PREFETCH, "prfum pldl1keep, [x2, #1]"),
        (0xc85f7c41, EXCLUSIVE, "ldxr x1, [x2]"),
        (0x8803fc41, EXCLUSIVE, "stlxr w3, w1, [x2]"),
        (0xc87f1041, EXCLUSIVE, "ldxp x1, x4, [x2]"),
        (0x88dffc41, ORDERED, "ldar w1, [x2]"),
        (0xc89ffc41, ORDERED, "stlr x1, [x2]"),
        (0x88df7c41, ORDERED, "ldlar w1, [x2]"),
        (0x88a17c43, COMPARE, "cas w1, w3, [x2]"),
        (0x48207c82, COMPARE, "casp x0, x1, x2, x3, [x4]"),
        (0xf8210062, ATOMIC, "ldadd x1, x2, [x3]"),
        (0x38e18062, ATOMIC, "swpalb w1, w2, [x3]"),
        (0xb8bfc041, ORDERED, "ldapr w1, [x2]"),
        (0xd9408041, ORDERED, "ldapur x1, [x2, #8]"),
        (0x191ff041, ORDERED, "stlurb w1, [x2, #-1]"),
        (0xf83fd062, BLOCK, "ld64b x2, [x3]"),
        (0xf83f9062, BLOCK, "st64b x2, [x3]"),
        (0xf821b062, BLOCK, "st64bv x1, x2, [x3]"),
        (0xf8200441, SIGNED_POINTER, "ldraa x1, [x2]"),
        (0xf8a01c41, SIGNED_POINTER, "ldrab x1, [x2, #8]!"),
        (0xd9200841, TAGS, "stg x1, [x2]"),
        (0xd9600041, TAGS, "ldg x1, [x2]"),
        (0x69000861, TAGS, "stgp x1, x2, [x3]"),
        (0xd9a0147f, TAGS, "st2g sp, [x3], #16"),
        (0x19020461, COPY, "cpyfp [x1]!, [x2]!, x3!"),
        (0x19c30441, COPY, "setp [x1]!, x2!, x3"),
        (0x3dc00041, VECTOR, "ldr q1, [x2]"),
        (0xfc408441, VECTOR, "ldr d1, [x2], #8"),
        (0xad000861, VECTOR, "stp q1, q2, [x3]"),
        (0x4c407020, VECTOR, "ld1 {v0.16b}, [x1]"),
        (0x0d9f0420, VECTOR, "st1 {v0.b}[1], [x1], #1"),
        (0x1c000041, VECTOR, "ldr s1, .+8"),
        (0xd50b7421, ZERO, "dc zva, x1"),
        (0xd50b7461, ZERO, "dc gva, x1"),
        (0xd50b7481, ZERO, "dc gzva, x1"),
        (0xd50b7e21, NEITHER, "dc civac, x1"),
        (0xd503201f, NEITHER, "nop"),
        (0x8b030041, NEITHER, "add x1, x2, x3"),
        (0x14000000, NEITHER, "b ."),
        (0xd4000001, NEITHER, "svc #0"),
        (0xf8408442, UNPREDICTABLE, "ldr x2, [x2], #8"),
        (0xa8810442, UNPREDICTABLE, "stp x2, x1, [x2], #16"),
        (0xa9400441, UNPREDICTABLE, "ldp x1, x1, [x2]"),
        (0xa9c10841, UNPREDICTABLE, "ldp x1, x2, [x2, #16]!"),
        (0xf8c00441, UNALLOCATED, "size 3, opc 3"),
        (0xe9400861, UNALLOCATED, "pair with opc 3"),
    ];
    for (word, name, text) in rows {
        assert_eq!(decode(word), Err(name), "{word:#010x} {text}");
    }
}
