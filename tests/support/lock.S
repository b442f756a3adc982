/*
 * Kernel:     lock
 * Computes:   plays the two functions that let go of a lock and take it again: counts the calls of each, and spoils what it may
 * Prototype:  int64_t *pyint8dot_lock_release(void); void pyint8dot_lock_take(int64_t *token)
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = token, what the first returns and the second has to be given: the two counts
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags
 * Unused:     x18-x30, v8-v15
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define token           x0
#define count           x9

/* The counts of the one and of the other. */
        .data
        .p2align 3
L(counts):
        .quad   0, 0

/* Counts itself and returns the counts. */
function lock_release
        address_of token, counts
        ldr     count, [token]
        add     count, count, #1
        str     count, [token]
        // Junk in every register that a function may change and returns nothing in.
        .irp    number, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17
        mov     x\number, #-1
        .endr
        .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        movi    v\number\().16b, #0xff
        .endr
        ret
endfunction lock_release

/* Counts itself, where it has been told to. */
function lock_take
        ldr     count, [token, #8]
        add     count, count, #1
        str     count, [token, #8]
        mov     token, #-1
        // Junk in every register that a function may change and returns nothing in.
        .irp    number, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17
        mov     x\number, #-1
        .endr
        .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        movi    v\number\().16b, #0xff
        .endr
        ret
endfunction lock_take
