/*
 * Kernel:     q_scale
 * Computes:   y[i][j] = clamp(round(acc[i][j] * multiplier / 2^shift) + zero_point), ties by the policy
 * Prototype:  void pyint8dot_q_scale(const int64_t args[12])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] acc          const int32_t *  m rows of n
 *             [1] y            int8_t * or uint8_t *: the low byte is stored
 *             [2] ld_acc       bytes from a row of acc to the next
 *             [3] ld_y         bytes from a row of y to the next
 *             [4] m            rows, >= 0
 *             [5] n            columns, >= 0
 *             [6] multiplier   0 .. 2^31 - 1
 *             [7] shift        1 .. 62
 *             [8] policy       1 Zero, 2 Away, 3 MinusInf, 4 PlusInf, 5 Even, 6 Odd: where a tie goes
 *             [9] zero_point   int32, added modulo 2^32 to the low 32 bits of the quotient
 *             [10] low         int32, least result
 *             [11] high        int32, greatest result
 * Clobbers:   x1-x11, v0-v7, v16-v22, flags
 * Unused:     x12-x30, v8-v15, v23-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "epilogue.h"

#define policy          x10
#define t0              x11
#define t0_w            w11

#define multipliers     v16
#define shifts          v17     /* -shift in 64-bit lanes: a left shift by it is one to the right */
#define zero_points     v18
#define lows            v19
#define highs           v20
#define ones            v21     /* 64-bit */
#define minus_ones      v22     /* 64-bit */

/* srshl adds half a unit and takes the floor, so that ties go up.  What is added to a product
 * before that, a unit in its last place at most, sends a tie elsewhere and nothing else. */
.macro ties_plus_inf product, t
.endm

/* One less: a tie is no tie any more, and all else still rounds as before. */
.macro ties_minus_inf product, t
        add     v\product\().2d, v\product\().2d, minus_ones.2d
.endm

/* One less where the product is negative. */
.macro ties_away product, t
        ssra    v\product\().2d, v\product\().2d, #63
.endm

/* One less where the product is not negative. */
.macro ties_zero product, t
        cmge    v\t\().2d, v\product\().2d, #0
        add     v\product\().2d, v\product\().2d, v\t\().2d
.endm

/* The floor of the quotient is odd where the even neighbour of a tie lies above. */
.macro ties_even product, t
        sshl    v\t\().2d, v\product\().2d, shifts.2d
        and     v\t\().16b, v\t\().16b, ones.16b
        add     v\product\().2d, v\product\().2d, v\t\().2d
        add     v\product\().2d, v\product\().2d, minus_ones.2d
.endm

/* One less where the floor of the quotient is odd. */
.macro ties_odd product, t
        sshl    v\t\().2d, v\product\().2d, shifts.2d
        and     v\t\().16b, v\t\().16b, ones.16b
        sub     v\product\().2d, v\product\().2d, v\t\().2d
.endm

/* Eight products in v0 and v1 to eight int8 in v0: multiply, settle ties, shift with rounding,
 * add, clamp, narrow. */
.macro scale_eight ties
        smull   v2.2d, v0.2s, multipliers.2s
        smull2  v3.2d, v0.4s, multipliers.4s
        smull   v4.2d, v1.2s, multipliers.2s
        smull2  v5.2d, v1.4s, multipliers.4s
        \ties   2, 6
        \ties   3, 7
        \ties   4, 6
        \ties   5, 7
        srshl   v2.2d, v2.2d, shifts.2d
        srshl   v3.2d, v3.2d, shifts.2d
        srshl   v4.2d, v4.2d, shifts.2d
        srshl   v5.2d, v5.2d, shifts.2d
        uzp1    v0.4s, v2.4s, v3.4s
        uzp1    v1.4s, v4.4s, v5.4s
        add     v0.4s, v0.4s, zero_points.4s
        add     v1.4s, v1.4s, zero_points.4s
        smax    v0.4s, v0.4s, lows.4s
        smax    v1.4s, v1.4s, lows.4s
        smin    v0.4s, v0.4s, highs.4s
        smin    v1.4s, v1.4s, highs.4s
        uzp1    v0.8h, v0.8h, v1.8h
        xtn     v0.8b, v0.8h
.endm

/* Nothing changes from row to row. */
.macro begin_row
.endm

/* The walk of one policy. */
.macro rounding name
/* Eight results by this policy. */
.macro eight_\name
        ldp     q0, q1, [acc_ptr], #32
        scale_eight ties_\name
        str     d0, [y_ptr], #8
.endm
/* One result by this policy. */
.macro one_\name
        ldr     s0, [acc_ptr], #4
        scale_eight ties_\name
        str     b0, [y_ptr], #1
.endm
L(policy_\name):
        walk    \name, begin_row, eight_\name, one_\name
.endm

function q_scale
        load_block
        ldp     t0, policy, [args, #48]
        dup     multipliers.4s, t0_w
        neg     policy, policy
        dup     shifts.2d, policy
        ldp     policy, t0, [args, #64]
        dup     zero_points.4s, t0_w
        ldr     t0, [args, #80]
        dup     lows.4s, t0_w
        ldr     t0, [args, #88]
        dup     highs.4s, t0_w
        movi    minus_ones.2d, #0xffffffffffffffff
        sub     ones.2d, ones.2d, ones.2d
        sub     ones.2d, ones.2d, minus_ones.2d

        // One walk a policy, so that nothing is decided within it.
        cmp     policy, #2
        b.lo    L(policy_zero)
        b.eq    L(policy_away)
        cmp     policy, #4
        b.lo    L(policy_minus_inf)
        b.eq    L(policy_plus_inf)
        cmp     policy, #6
        b.lo    L(policy_even)

        rounding odd
        rounding zero
        rounding away
        rounding minus_inf
        rounding plus_inf
        rounding even
L(finished):
        ret
endfunction q_scale
