// The arm64 Image header and the way to Rust: MMU and caches on with an
// identity map, BSS cleared, relocations applied. x0 holds the device tree.
.section .head, "ax"
.global _start
_start:
    b       1f
    .long   0
    .quad   0                       // text_offset
    .quad   __image_size            // image_size
    .quad   0xa                     // little-endian, 4K pages, anywhere
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .long   0

1:  msr     daifset, #0xf
    mov     x20, x0
    bl      enable_mmu

    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
2:  cmp     x0, x1
    b.hs    3f
    stp     xzr, xzr, [x0], #16
    b       2b

3:  adr     x2, _start              // linked at 0, so where we are is what to add
    adrp    x0, __rela_start
    add     x0, x0, :lo12:__rela_start
    adrp    x1, __rela_end
    add     x1, x1, :lo12:__rela_end
4:  cmp     x0, x1
    b.hs    5f
    ldp     x3, x4, [x0], #16       // offset, kind
    ldr     x5, [x0], #8            // addend
    cmp     x4, #1027               // R_AARCH64_RELATIVE
    b.ne    4b
    add     x5, x5, x2
    str     x5, [x3, x2]
    b       4b

5:  adrp    x0, __stack_top
    add     x0, x0, :lo12:__stack_top
    mov     sp, x0
    mov     x29, #0
    mov     x30, #0
    mov     x0, x20
    bl      payload_main
6:  wfi
    b       6b

// Another core enters here, by PSCI: x0 holds the top of its stack.
.global payload_secondary_entry
payload_secondary_entry:
    msr     daifset, #0xf
    mov     x20, x0
    bl      enable_mmu
    mov     sp, x20
    mov     x29, #0
    mov     x30, #0
    bl      payload_secondary
7:  wfi
    b       7b

// Vectors and the MMU; changes x0 and x1 only.
enable_mmu:
    adr     x0, vectors
    msr     vbar_el1, x0
    ldr     x0, =0xff04             // attribute 0 device nGnRE, 1 normal write-back
    msr     mair_el1, x0
    ldr     x0, =0x200803519        // T0SZ 25, inner-shareable, write-back, 4K, no TTBR1, 40 bits
    msr     tcr_el1, x0
    adrp    x0, {table}
    add     x0, x0, :lo12:{table}
    msr     ttbr0_el1, x0
    dsb     sy
    tlbi    vmalle1
    ic      iallu
    dsb     sy
    isb
    mrs     x0, sctlr_el1
    mov     x1, #0x1005             // M, C, I
    orr     x0, x0, x1
    bic     x0, x0, #2              // no alignment checks
    msr     sctlr_el1, x0
    isb
    ret
    .ltorg

.section .vectors, "ax"
.balign 2048
vectors:
.rept 16
    .balign 128
    b       fault
.endr
// Rust is told, and answers where to go on.
fault:
    sub     sp, sp, #176
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x29, [sp, #144]
    str     x30, [sp, #160]
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    bl      payload_fault
    msr     elr_el1, x0
    ldp     x0, x1, [sp]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x29, [sp, #144]
    ldr     x30, [sp, #160]
    add     sp, sp, #176
    eret
