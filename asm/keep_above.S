/*
 * Kernel:     keep_above
 * Computes:   appends to row i each score (float32(acc[i][j]) * col_scale[j]) * row_scale[i] > least[i], and its column
 * Prototype:  void pyint8dot_keep_above(const int64_t args[13])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] acc         const int32_t *  m rows of n
 *             [1] ld_acc      bytes from a row of acc to the next
 *             [2] m           rows, >= 0
 *             [3] n           columns, >= 0
 *             [4] col_scale   const float [n]  finite, or NaN for a column whose scores are never kept
 *             [5] row_scale   const float [m]  finite, >= 0
 *             [6] least       const float [m]  no NaN
 *             [7] counts      int64_t [m]      scores that each row has kept, moved on
 *             [8] scores      float *          m rows of `room`, filled from counts[i] on
 *             [9] columns     int64_t *        likewise: the number of each score's column
 *             [10] room       scores and columns that a row has room for
 *             [11] position   int64_t *        the number of column 0; moved on by n
 *             [12] status     int64_t *        set to 1 where a row has no room for n more: nothing else is written then
 * Clobbers:   x0-x17, v0-v7, v16-v17, v20-v21, flags
 * Unused:     x18-x30, v8-v15, v18-v19, v22-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define acc             x1      /* this row of the block */
#define ld_acc          x2
#define rows            x3      /* rows left */
#define columns         x4      /* columns of a row, less 16 */
#define col_scale       x5      /* scale of column 0 */
#define row_scale       x6      /* scale of this row */
#define least           x7      /* what a score of this row must exceed */
#define counts          x8      /* how many this row has kept */
#define scores          x9      /* those of this row */
#define numbers         x10     /* and their columns */
#define room            x11
#define acc_ptr         x12
#define scale_ptr       x13     /* scale of the column at hand */
#define left            x14     /* columns left in the row, less the 16 at hand */
#define kept            x15     /* scores that the row has kept */
#define last            x16     /* the first of 16 columns at hand has the number `last` - `left` */
#define mask            x17     /* of four scores, 16 bits each, those that are above */
#define number          x0      /* of a column */

/* Names for the time before the first row. */
#define limit           x12     /* the most that a row may have kept: room for n more is left */
#define counts_ptr      x13
#define t0              x14
#define t1              x15

#define factor          v20     /* the row's scale, in every lane */
#define floors          v21     /* its least, in every lane */

/* Four sums to scores that lack the row's scale only. */
.macro half_score values, scales
        scvtf   v\values\().4s, v\values\().4s
        fmul    v\values\().4s, v\values\().4s, v\scales\().4s
.endm

/* The score of a lane and its column's number, where the mask has its bit. */
.macro keep_lane values, lane, column
        tbz     mask, #16 * \lane, L(below_\values\()_\lane)
        mov     s4, v\values\().s[\lane]
        add     number, number, #\column + \lane
        str     s4, [scores, kept, lsl #2]
        str     number, [numbers, kept, lsl #3]
        sub     number, number, #\column + \lane
        add     kept, kept, #1
L(below_\values\()_\lane):
.endm

/* Four scores, of which mostly none is above. */
.macro keep_four values, column
        fmul    v\values\().4s, v\values\().4s, factor.4s
        fcmgt   v4.4s, v\values\().4s, floors.4s
        xtn     v4.4h, v4.4s
        fmov    mask, d4
        cbz     mask, L(none_\values)
        keep_lane \values, 0, \column
        keep_lane \values, 1, \column
        keep_lane \values, 2, \column
        keep_lane \values, 3, \column
L(none_\values):
.endm

function keep_above
        ldp     acc, ld_acc, [args]
        ldp     rows, columns, [args, #16]
        ldp     col_scale, row_scale, [args, #32]
        ldp     least, counts, [args, #48]
        ldp     scores, numbers, [args, #64]
        ldr     room, [args, #80]

        // Room for all columns in every row, or nothing is done.
        sub     limit, room, columns
        mov     counts_ptr, counts
        mov     t0, rows
        cbz     t0, L(roomy)
L(next_count):
        ldr     t1, [counts_ptr], #8
        cmp     t1, limit
        b.gt    L(full)
        subs    t0, t0, #1
        b.ne    L(next_count)

L(roomy):
        ldr     t0, [args, #88]
        ldr     t1, [t0]
        add     t1, t1, columns
        str     t1, [t0]
        sub     columns, columns, #16
        sub     last, t1, #16
        cbz     rows, L(finished)

L(next_row):
        mov     acc_ptr, acc
        mov     scale_ptr, col_scale
        ld1r    {factor.4s}, [row_scale], #4
        ld1r    {floors.4s}, [least], #4
        ldr     kept, [counts]
        mov     left, columns
        tbnz    left, #63, L(row_end)

        // Rounding keeps order, so the greatest of sixteen scores is that of the greatest half score.
        // Columns that are NaN drop out of the maximum.
L(next_sixteen):
        ldp     q0, q1, [acc_ptr], #32
        ldp     q2, q3, [acc_ptr], #32
        ldp     q4, q5, [scale_ptr], #32
        ldp     q6, q7, [scale_ptr], #32
        half_score 0, 4
        half_score 1, 5
        half_score 2, 6
        half_score 3, 7
        fmaxnm  v16.4s, v0.4s, v1.4s
        fmaxnm  v17.4s, v2.4s, v3.4s
        fmaxnm  v16.4s, v16.4s, v17.4s
        fmaxnmv s16, v16.4s
        fmul    s16, s16, s20
        fcmp    s16, s21
        b.gt    L(some_above)
L(sixteen_done):
        subs    left, left, #16
        b.hs    L(next_sixteen)

        // One to fifteen columns, one by one; `number` is theirs.
L(row_end):
        sub     number, last, left
        adds    left, left, #16
        b.eq    L(row_done)
L(next_one):
        ldr     s0, [acc_ptr], #4
        ldr     s4, [scale_ptr], #4
        scvtf   s0, s0
        fmul    s0, s0, s4
        fmul    s0, s0, s20
        fcmp    s0, s21
        b.le    L(one_below)
        str     s0, [scores, kept, lsl #2]
        str     number, [numbers, kept, lsl #3]
        add     kept, kept, #1
L(one_below):
        add     number, number, #1
        subs    left, left, #1
        b.ne    L(next_one)

L(row_done):
        str     kept, [counts], #8
        add     acc, acc, ld_acc
        add     scores, scores, room, lsl #2
        add     numbers, numbers, room, lsl #3
        subs    rows, rows, #1
        b.ne    L(next_row)
        b       L(finished)

        // Rarely: the scores of sixteen columns, four by four.
L(some_above):
        sub     number, last, left
        keep_four 0, 0
        keep_four 1, 4
        keep_four 2, 8
        keep_four 3, 12
        b       L(sixteen_done)

L(full):
        ldr     t0, [args, #96]
        mov     t1, #1
        str     t1, [t0]
L(finished):
        ret
endfunction keep_above
