/*
 * Portability only: what differs between ELF, Mach-O and COFF, and between
 * assemblers, is hidden here so that a kernel file holds a contract, an
 * include and its body.
 */
#ifndef PYINT8DOT_ASM_H
#define PYINT8DOT_ASM_H

/* x18 belongs to the platform (Apple, Windows): naming it must not assemble. */
#define x18 x18_is_reserved_by_the_platform
#define w18 w18_is_reserved_by_the_platform

/* Local labels never reach a symbol table, whatever the object format. */
#if defined(__APPLE__)
#define L(name) L##name
#else
#define L(name) .L##name
#endif

/* Nothing beyond base ARMv8-A assembles unless a kernel asks for it.  Apple's
 * assembler takes the base from its target and knows no bare `armv8-a` line. */
#if !defined(__APPLE__)
        .arch   armv8-a
#endif

/* An entry of the library: the linker exports pyint8dot_<name>, a BTI landing
 * pad (hint #34 is `bti c`) is its first instruction, and unwinders find it.
 * One with a frame says `framed` here and at its end. */
.macro function name, frame
        .text
        .p2align 5
#if defined(__APPLE__)
        .globl  _pyint8dot_\name
_pyint8dot_\name:
#else
        .globl  pyint8dot_\name
#if defined(__ELF__)
        .type   pyint8dot_\name, %function
#else
        .def    pyint8dot_\name
        .scl    2
        .type   32
        .endef
        .section .drectve, "yn"
        .ascii  " -export:pyint8dot_\name"
        .text
    .ifnb \frame
        .seh_proc pyint8dot_\name
    .endif
#endif
pyint8dot_\name:
#endif
        cfi     startproc
        hint    #34
    .ifnb \frame
        seh     nop
    .endif
.endm

/* The end of an entry, for unwinders and the symbol table. */
.macro endfunction name, frame
        cfi     endproc
    .ifnb \frame
        seh     endproc
    .endif
#if defined(__ELF__)
        .size   pyint8dot_\name, . - pyint8dot_\name
#endif
.endm

/* What unwinders are told: DWARF's of the call frame, but for Windows. */
.macro cfi directive, arguments:vararg
#if !defined(_WIN32)
        .cfi_\directive \arguments
#endif
.endm

/* The same for Windows, which takes a line an instruction and knows leaves without. */
.macro seh directive, arguments:vararg
#if defined(_WIN32)
        .seh_\directive \arguments
#endif
.endm

/* Windows has a name for saving each kind of register; `x` is empty, or stands for a moved stack pointer. */
.macro seh_pair x, first, at
#if defined(_WIN32)
    .irpc letter, \first
        .ifc \letter, d
        .seh_save_fregp\x \first, \at
        .endif
        .ifc \letter, x
            .ifc \first, x29
        .seh_save_fplr\x \at
            .else
        .seh_save_regp\x \first, \at
            .endif
        .endif
    .endr
#endif
.endm

/* A frame begins: so many bytes of stack, and the first two registers that it keeps at their lowest. */
.macro open_frame first, second, bytes
        stp     \first, \second, [sp, #-\bytes]!
        cfi     def_cfa_offset, \bytes
        cfi     rel_offset, \first, 0
        cfi     rel_offset, \second, 8
        seh_pair _x, \first, \bytes
.endm

/* Two more of them, so many bytes above. */
.macro keep first, second, at
        stp     \first, \second, [sp, #\at]
        cfi     rel_offset, \first, \at
        cfi     rel_offset, \second, \at + 8
        seh_pair , \first, \at
.endm

/* The frame is found by x29 from here on, whatever becomes of the stack pointer. */
.macro point_frame
        mov     x29, sp
        cfi     def_cfa_register, x29
        seh     set_fp
.endm

/* No more is kept: the entry's own work begins. */
.macro frame_stands
        seh     endprologue
.endm

/* The work is done: what follows gives back what was kept, in reverse order. */
.macro leave_frame
        seh     startepilogue
.endm

/* The stack pointer as it was when x29 took it. */
.macro unpoint_frame
        mov     sp, x29
        cfi     def_cfa_register, sp
        seh     set_fp
.endm

/* Two registers as they were. */
.macro give_back first, second, at
        ldp     \first, \second, [sp, #\at]
        cfi     restore, \first
        cfi     restore, \second
        seh_pair , \first, \at
.endm

/* The last two, and the stack; `ret` is next. */
.macro close_frame first, second, bytes
        ldp     \first, \second, [sp], #\bytes
        cfi     restore, \first
        cfi     restore, \second
        cfi     def_cfa_offset, 0
        seh_pair _x, \first, \bytes
        seh     endepilogue
.endm

/* Read-only constants, reached through `address_of`. */
.macro constants name
#if defined(__APPLE__)
        .section __TEXT,__const
#elif defined(__ELF__)
        .section .rodata
#else
        .section .rdata,"dr"
#endif
        .p2align 4
L(\name):
.endm

/* The address of a constant of this file, without a relocation in the text. */
.macro address_of register, name
#if defined(__APPLE__)
        adrp    \register, L(\name)@PAGE
        add     \register, \register, L(\name)@PAGEOFF
#else
        adrp    \register, L(\name)
        add     \register, \register, :lo12:L(\name)
#endif
.endm

#if defined(__ELF__)
/* The stack is not executable. */
        .section .note.GNU-stack, "", %progbits

/* GNU property note: every entry of this object starts with a landing pad. */
        .section .note.gnu.property, "a", %note
        .p2align 3
        .long   4                       // bytes of the name
        .long   16                      // bytes of the descriptor
        .long   5                       // NT_GNU_PROPERTY_TYPE_0
        .asciz  "GNU"
        .long   0xc0000000              // GNU_PROPERTY_AARCH64_FEATURE_1_AND
        .long   4                       // bytes of the value
        .long   1                       // BTI
        .long   0                       // padding to 8 bytes
#endif

        .text
#endif
