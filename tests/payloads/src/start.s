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
    .ltorg

.section .vectors, "ax"
.balign 2048
vectors:
.rept 16
    .balign 128
    b       fault
.endr
fault:
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    adrp    x3, __stack_top
    add     x3, x3, :lo12:__stack_top
    mov     sp, x3
    bl      payload_fault
