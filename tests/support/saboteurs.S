/*
 * Kernel:     saboteurs
 * Computes:   one fault each, on purpose: the checker has to catch every one of them before it may judge a kernel
 * Prototype:  void pyint8dot_saboteur_NAME(const int64_t args[9])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args, as the kernels take them: [0] a, [1] b, [2] c, [3] ldc, [4] m, [5] n, [6] k
 * Clobbers:   x9-x12, and the one thing that its name says; echo x1-x17, v0-v1
 * Unused:     v2-v7, v16-v31
 * Stack:      0
 * Over-read:  saboteur_read_past and saboteur_read_before
 * Bound:      none
 */
#include "asm.h"

/* x18 is what one of them has to write. */
#undef x18

#define args            x0
#define address         x9
#define bytes           x10
#define rows            x11
#define junk            x12

/* One flipped bit in a register that belongs to the caller. */
.macro spoil_x name
function saboteur_\name
        eor     \name, \name, #1
        ret
endfunction saboteur_\name
.endm

/* The low half of v8-v15 belongs to the caller. */
.macro spoil_d number
function saboteur_d\number
        fmov    junk, d\number
        eor     junk, junk, #1
        fmov    d\number, junk
        ret
endfunction saboteur_d\number
.endm

#if !defined(__APPLE__) && !defined(_WIN32)
        spoil_x x18
#endif
        spoil_x x19
        spoil_x x20
        spoil_x x21
        spoil_x x22
        spoil_x x23
        spoil_x x24
        spoil_x x25
        spoil_x x26
        spoil_x x27
        spoil_x x28
        spoil_x x29

        spoil_d 8
        spoil_d 9
        spoil_d 10
        spoil_d 11
        spoil_d 12
        spoil_d 13
        spoil_d 14
        spoil_d 15

/* Touches nothing: the checker must stay silent. */
function saboteur_none
        ret
endfunction saboteur_none

/* Comes back with the stack pointer moved. */
function saboteur_sp
        sub     sp, sp, #16
        ret
endfunction saboteur_sp

/* Writes into its caller's stack. */
function saboteur_stack_above
        str     args, [sp, #8]
        ret
endfunction saboteur_stack_above

/* Claims no stack and uses some: a signal handler could write there at any time. */
function saboteur_stack_below
        str     args, [sp, #-16]
        ret
endfunction saboteur_stack_below

/* Leaves another rounding mode behind. */
function saboteur_fpcr
        mrs     junk, fpcr
        eor     junk, junk, #0x400000
        msr     fpcr, junk
        ret
endfunction saboteur_fpcr

/* address = the cell after the last one of C's first row. */
.macro end_of_first_row
        ldr     address, [args, #2 * 8]
        ldr     bytes, [args, #5 * 8]
        add     address, address, bytes, lsl #2
.endm

/* One int32 right of C's first row: the padding of the rows, or a guard page. */
function saboteur_write_right
        end_of_first_row
        str     wzr, [address]
        ret
endfunction saboteur_write_right

/* One int32 left of C. */
function saboteur_write_left
        ldr     address, [args, #2 * 8]
        str     wzr, [address, #-4]
        ret
endfunction saboteur_write_left

/* The first cell of the row above C. */
function saboteur_write_above
        ldp     address, bytes, [args, #2 * 8]
        sub     address, address, bytes
        str     wzr, [address]
        ret
endfunction saboteur_write_above

/* The first cell of the row below C. */
function saboteur_write_below
        ldp     address, bytes, [args, #2 * 8]
        ldr     rows, [args, #4 * 8]
        madd    address, rows, bytes, address
        str     wzr, [address]
        ret
endfunction saboteur_write_below

/* Reads one byte past packed A. */
function saboteur_read_past
        ldr     address, [args]
        ldr     rows, [args, #4 * 8]
        ldr     bytes, [args, #6 * 8]
        madd    address, rows, bytes, address
        ldrb    w12, [address]
        ret
endfunction saboteur_read_past

/* Reads one byte before packed B. */
function saboteur_read_before
        ldr     address, [args, #1 * 8]
        ldrb    w12, [address, #-1]
        ret
endfunction saboteur_read_before

/* Writes into packed A, which is an input. */
function saboteur_write_input
        ldr     address, [args]
        strb    wzr, [address]
        ret
endfunction saboteur_write_input

/* An instruction that no processor has. */
function saboteur_illegal
        udf     #0
        ret
endfunction saboteur_illegal

/* No saboteur: writes the 14 fields it was given to where the first of them points, and ruins what it may. */
function echo
        ldr     address, [args]
        mov     rows, #14
L(next_field):
        ldr     junk, [args], #8
        str     junk, [address], #8
        subs    rows, rows, #1
        b.ne    L(next_field)
        fmov    d0, junk
        dup     v1.2d, junk
        mov     x1, junk
        mov     x2, junk
        mov     x3, junk
        mov     x4, junk
        mov     x5, junk
        mov     x6, junk
        mov     x7, junk
        mov     x8, junk
        mov     x9, junk
        mov     x10, junk
        mov     x11, junk
        mov     x13, junk
        mov     x14, junk
        mov     x15, junk
        mov     x16, junk
        mov     x17, junk
        ret
endfunction echo
