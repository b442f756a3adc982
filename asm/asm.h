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
 * pad (hint #34 is `bti c`) is its first instruction, and unwinders find it. */
.macro function name
        .text
        .p2align 5
#if defined(__APPLE__)
        .globl  _pyint8dot_\name
_pyint8dot_\name:
#else
        .globl  pyint8dot_\name
#if defined(__ELF__)
        .type   pyint8dot_\name, %function
#endif
pyint8dot_\name:
#endif
        .cfi_startproc
        hint    #34
.endm

/* The end of an entry, for unwinders and the symbol table. */
.macro endfunction name
        .cfi_endproc
#if defined(__ELF__)
        .size   pyint8dot_\name, . - pyint8dot_\name
#endif
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
