//! The arm64 Image header: 64 bytes that make one binary both a flat Image and an ELF.

use core::arch::global_asm;

// Fields: code0, code1, text_offset, image_size, flags, three reserved words,
// magic "ARM\x64", reserved. Flags 0b0010: little endian, 4K pages, placed at
// text_offset from the start of RAM.
global_asm!(
    ".section .head.header, \"ax\"",
    ".global _head",
    "_head:",
    "    b _start",
    "    nop",
    "    .quad __text_offset",
    "    .quad __image_size",
    "    .quad 0b0010",
    "    .quad 0",
    "    .quad 0",
    "    .quad 0",
    "    .ascii \"ARM\\x64\"",
    "    .long 0",
);
