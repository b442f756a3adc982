/*
 * Means of float32 rows in the order of pyint8dot.floats: sixteen columns a turn, then those that are left, lane by lane.
 */
#ifndef PYINT8DOT_MEAN_H
#define PYINT8DOT_MEAN_H

#define count           s18     /* n */
#define rest            s24     /* sum over the row's last columns; v20-v23: over four columns in turn each */

/* The pointer to the row, the sums and what is left from the start; the flags say lower where there is no turn of 16. */
.macro begin_sums pointer, row, left, columns
        mov     \pointer, \row
        movi    v20.4s, #0
        movi    v21.4s, #0
        movi    v22.4s, #0
        movi    v23.4s, #0
        movi    v24.4s, #0
        subs    \left, \columns, #16
.endm

/* Sixteen values in v0-v3 to the sums. */
.macro add_to_sums
        fadd    v20.4s, v20.4s, v0.4s
        fadd    v21.4s, v21.4s, v1.4s
        fadd    v22.4s, v22.4s, v2.4s
        fadd    v23.4s, v23.4s, v3.4s
.endm

/* Sum of v20-v23 and what is in `rest`, divided by n, to s20. */
.macro mean_of_sums
        fadd    v20.4s, v20.4s, v21.4s
        fadd    v22.4s, v22.4s, v23.4s
        fadd    v20.4s, v20.4s, v22.4s
        faddp   v20.4s, v20.4s, v20.4s
        faddp   s20, v20.2s
        fadd    s20, s20, rest
        fdiv    s20, s20, count
.endm

#endif
