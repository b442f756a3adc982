/*
 * Kernel:     column_start
 * Computes:   start[j] = base[j] + z * v[j], mod 2^32, where z is the zero point as int8
 * Prototype:  void pyint8dot_column_start(const int64_t args[6])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] start       int32_t [n]
 *             [1] base        const int32_t [n] or null, which stands for zeros
 *             [2] n           columns, >= 0
 *             [3] zero_point  const int8_t *
 *             [4] flip        what is xored into the zero point: 0x80 where it is a uint8, else 0
 *             [5] v           const int32_t [n]
 * Clobbers:   x1-x8, v0-v4, flags
 * Unused:     x9-x30, v5-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define start           x1
#define base            x2      /* null where the columns start from zeros */
#define columns         x3
#define zero_point      x4
#define zero_word       w4      /* the zero point, once it is read */
#define flip            x5
#define flip_word       w5
#define v               x6
#define counter         x7      /* eights of columns left */

#define zero            v4      /* the zero point in every lane */

/* The last columns: four, two or one of them, as the register says. */
.macro few_columns register, bytes
        movi    v0.4s, #0
        cbz     base, L(no_base_\register)
        ldr     \register\()0, [base], #\bytes
L(no_base_\register):
        ldr     \register\()2, [v], #\bytes
        mla     v0.4s, v2.4s, zero.4s
        str     \register\()0, [start], #\bytes
.endm

function column_start
        ldp     start, base, [args]
        ldp     columns, zero_point, [args, #16]
        ldp     flip, v, [args, #32]

        // The zero point is known only now, where the operand was quantised a moment ago.
        ldrb    zero_word, [zero_point]
        eor     zero_word, zero_word, flip_word
        sxtb    zero_word, zero_word
        dup     zero.4s, zero_word
        lsr     counter, columns, #3
        cbz     counter, L(last_four)
L(next_eight):
        movi    v0.4s, #0
        movi    v1.4s, #0
        cbz     base, L(no_base)
        ldp     q0, q1, [base], #32
L(no_base):
        ldp     q2, q3, [v], #32
        mla     v0.4s, v2.4s, zero.4s
        mla     v1.4s, v3.4s, zero.4s
        stp     q0, q1, [start], #32
        subs    counter, counter, #1
        b.ne    L(next_eight)

        // The bits of n % 8 say which columns are left.
L(last_four):
        tbz     columns, #2, L(last_two)
        few_columns q, 16
L(last_two):
        tbz     columns, #1, L(last_one)
        few_columns d, 8
L(last_one):
        tbz     columns, #0, L(finished)
        few_columns s, 4
L(finished):
        ret
endfunction column_start
