/*
 * Kernel:     smull_4x4
 * Computes:   C[i][j] = row_start[i] + col_start[j] + sum over p of A[i][p] * B[p][j] + the surplus, mod 2^32.  Of one operand,
 *             whichever, the packed bytes of k % 16 >= 8 are complemented; the surplus is the sum over these k of the other
 *             one's values: of B[p][j] for each column where it is A, of A[i][p] for each row where it is B
 * Prototype:  void pyint8dot_smull_4x4(const int64_t args[9])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       4 x 4
 * Packing:    PackedI8K16(4), K group 16
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   panels of 4 rows, then of 2, 1 as m % 4 has bits; k bytes a row
 *             [1] b          const int8_t *   ceil(n / 4) panels of 4 columns, zeros beyond n; k bytes a column
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          packed depth, a multiple of 16, >= 0; at 0 C is only the start values
 *             [7] row_start  const int32_t [m] or null
 *             [8] col_start  const int32_t [n rounded up to 4] or null
 * Clobbers:   x1-x17, v0-v7, v16-v31, flags
 * Unused:     x18-x30
 * Stack:      64, keeps d8-d15
 * Over-read:  none
 * Bound:      exact for k <= 131071, the sum of k products of -128 x -128; beyond it wraps like numpy's int32
 */
#include "asm.h"

/*
 * a0 * b0 + a1 * b1 may be 2^15, one more than int16 holds.  With ~a1 = -1 - a1 at hand instead
 * of a1 the pair is made as a0 * b0 - ~a1 * b1 = a0 * b0 + a1 * b1 + b1, which lies between
 * -32640 and 32640 whatever the four are: two products an int16, exact for every input.
 *
 * Sum 4r + c of the tile, v[16 + 4r + c], is that of row r and column c; its four lanes are sums
 * over a part of k until they are added up at the tile's end.  v0..v3 hold the lower halves of
 * four columns of B, v4..v7 the upper ones, v8 and v9 those of an even row of A, v10 and v11 of an
 * odd one, v12..v15 the pairs of a row.
 */
#define args            x0
#define a_base          x1      /* first panel of A */
#define b_base          x2      /* this panel of B */
#define c_base          x3      /* this tile column of C */
#define ldc             x4      /* bytes from a row of C to the next */
#define rows_all        x5      /* m */
#define columns         x6      /* columns left, this panel's included */
#define groups          x7      /* K groups of a panel */
#define row_start       x8      /* int32[m] or null */
#define col_start       x9      /* int32[columns rounded up to 4], or four zeros */
#define a_ptr           x10
#define b_ptr           x11
#define counter         x12
#define c_ptr           x13
#define rows            x14     /* rows left, this panel's included */
#define row_ptr         x15
#define cell            x16     /* where the next columns of a narrow row go */
#define col_step        x17     /* bytes from col_start of a panel to that of the next: none between zeros */

#define starts          v0      /* col_start of the tile's columns, when nothing is left to multiply */

/* One K group of the next row of A. */
.macro load_row low, high
        ldp     d\low, d\high, [a_ptr], #16
.endm

/* One K group of the next column of B. */
.macro load_column low, high
        ldp     d\low, d\high, [b_ptr], #16
.endm

/* A row's pairs of one K group, added to its sums by an instruction that begins them or one that goes on.  Each multiply
 * is four instructions behind what it waits for, and two lie between loads, which take two cycles on in-order cores:
 * with `next`, that of the next row to the other registers of A, and with `ahead`, those of the next group's columns,
 * each as soon as the one in its place has met this last row. */
.macro multiply_row add, s0, s1, s2, s3, low, high, next, next_low, next_high, ahead
        smull   v12.8h, v\low\().8b, v0.8b
    .if \next
        load_row \next_low, \next_high
    .endif
        smull   v13.8h, v\low\().8b, v1.8b
        smull   v14.8h, v\low\().8b, v2.8b
        smull   v15.8h, v\low\().8b, v3.8b
        smlsl   v12.8h, v\high\().8b, v4.8b
    .if \ahead
        load_column 0, 4
    .endif
        smlsl   v13.8h, v\high\().8b, v5.8b
        smlsl   v14.8h, v\high\().8b, v6.8b
    .if \ahead
        load_column 1, 5
    .endif
        smlsl   v15.8h, v\high\().8b, v7.8b
        \add    v\s0\().4s, v12.8h
    .if \ahead
        load_column 2, 6
    .endif
        \add    v\s1\().4s, v13.8h
        \add    v\s2\().4s, v14.8h
    .if \ahead
        load_column 3, 7
    .endif
        \add    v\s3\().4s, v15.8h
.endm

/* One K group of four rows.  Its columns and its first row are at hand; where `more` follow, theirs are in the end. */
.macro multiply_group add, more
        multiply_row \add, 16, 17, 18, 19, 8, 9, 1, 10, 11, 0
        multiply_row \add, 20, 21, 22, 23, 10, 11, 1, 8, 9, 0
        multiply_row \add, 24, 25, 26, 27, 8, 9, 1, 10, 11, 0
        multiply_row \add, 28, 29, 30, 31, 10, 11, \more, 8, 9, \more
.endm

/* The whole depth of four rows: loads run a group ahead, so the last group has none. */
.macro multiply_4
        mov     counter, groups
        load_column 0, 4
        load_column 1, 5
        load_column 2, 6
        load_column 3, 7
        load_row 8, 9
        subs    counter, counter, #1
        b.eq    L(only_group)
        multiply_group saddlp, 1
        subs    counter, counter, #1
        b.eq    L(last_group)
L(next_group):
        multiply_group sadalp, 1
        subs    counter, counter, #1
        b.ne    L(next_group)
L(last_group):
        multiply_group sadalp, 0
        b       L(multiplied_4)
L(only_group):
        multiply_group saddlp, 0
L(multiplied_4):
.endm

/* A row's pairs of one K group in p0..p3 from whole registers, A's in a and B's in b0..b3, added to its sums. */
.macro multiply_whole s0, s1, s2, s3, a, b0, b1, b2, b3, p0, p1, p2, p3
        smull   v\p0\().8h, v\a\().8b, v\b0\().8b
        smull   v\p1\().8h, v\a\().8b, v\b1\().8b
        smull   v\p2\().8h, v\a\().8b, v\b2\().8b
        smull   v\p3\().8h, v\a\().8b, v\b3\().8b
        smlsl2  v\p0\().8h, v\a\().16b, v\b0\().16b
        smlsl2  v\p1\().8h, v\a\().16b, v\b1\().16b
        smlsl2  v\p2\().8h, v\a\().16b, v\b2\().16b
        smlsl2  v\p3\().8h, v\a\().16b, v\b3\().16b
        sadalp  v\s0\().4s, v\p0\().8h
        sadalp  v\s1\().4s, v\p1\().8h
        sadalp  v\s2\().4s, v\p2\().8h
        sadalp  v\s3\().4s, v\p3\().8h
.endm

/* The sums of a row begin at zero. */
.macro clear_row s0, s1, s2, s3
        movi    v\s0\().4s, #0
        movi    v\s1\().4s, #0
        movi    v\s2\().4s, #0
        movi    v\s3\().4s, #0
.endm

/* The whole depth of two rows. */
.macro multiply_2
        clear_row 16, 17, 18, 19
        clear_row 20, 21, 22, 23
        mov     counter, groups
L(next_of_two):
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [b_ptr], #64
        ldp     q4, q5, [a_ptr], #32
        multiply_whole 16, 17, 18, 19, 4, 0, 1, 2, 3, 24, 25, 26, 27
        multiply_whole 20, 21, 22, 23, 5, 0, 1, 2, 3, 28, 29, 30, 31
        subs    counter, counter, #1
        b.ne    L(next_of_two)
.endm

/* The whole depth of one row, a matrix-vector product on the same packed B: four K groups a turn, so that each of B is
 * loaded while the one before it is multiplied, then those that are left. */
.macro multiply_1
        clear_row 16, 17, 18, 19
        lsr     counter, groups, #2
        cbz     counter, L(rest_of_one)
L(turn_of_one):
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [a_ptr], #64
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [b_ptr], #64
        ld1     {v8.16b, v9.16b, v10.16b, v11.16b}, [b_ptr], #64
        multiply_whole 16, 17, 18, 19, 4, 0, 1, 2, 3, 24, 25, 26, 27
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [b_ptr], #64
        multiply_whole 16, 17, 18, 19, 5, 8, 9, 10, 11, 28, 29, 30, 31
        ld1     {v8.16b, v9.16b, v10.16b, v11.16b}, [b_ptr], #64
        multiply_whole 16, 17, 18, 19, 6, 0, 1, 2, 3, 24, 25, 26, 27
        multiply_whole 16, 17, 18, 19, 7, 8, 9, 10, 11, 28, 29, 30, 31
        subs    counter, counter, #1
        b.ne    L(turn_of_one)
L(rest_of_one):
        ands    counter, groups, #3
        b.eq    L(multiplied_1)
L(next_of_one):
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [b_ptr], #64
        ldr     q4, [a_ptr], #16
        multiply_whole 16, 17, 18, 19, 4, 0, 1, 2, 3, 24, 25, 26, 27
        subs    counter, counter, #1
        b.ne    L(next_of_one)
L(multiplied_1):
.endm

/* `do_rows n, macro`: apply a macro to the tile rows 0 .. n-1, by the registers of their sums. */
.macro do_rows n, macro
        \macro  16, 17, 18, 19
    .if \n > 1
        \macro  20, 21, 22, 23
    .endif
    .if \n > 2
        \macro  24, 25, 26, 27
        \macro  28, 29, 30, 31
    .endif
.endm

/* The lanes of a row's four sums in pairs, then pairs in pairs: a lane a column. */
.macro add_lanes s0, s1, s2, s3
        addp    v\s0\().4s, v\s0\().4s, v\s1\().4s
        addp    v\s2\().4s, v\s2\().4s, v\s3\().4s
        addp    v\s0\().4s, v\s0\().4s, v\s2\().4s
.endm

/* The start values of the columns. */
.macro add_columns s0, s1, s2, s3
        add     v\s0\().4s, v\s0\().4s, starts.4s
.endm

/* A row's own start value, in every column. */
.macro add_row_start s0, s1, s2, s3
        ld1r    {v1.4s}, [row_ptr], #4
        add     v\s0\().4s, v\s0\().4s, v1.4s
.endm

/* A whole row of the tile. */
.macro store_row s0, s1, s2, s3
        str     q\s0, [c_ptr]
        add     c_ptr, c_ptr, ldc
.endm

/* 1 to 3 columns of a row, by the bits of their number; nothing beyond is touched. */
.macro store_row_edge s0, s1, s2, s3
        mov     cell, c_ptr
        tbz     columns, #1, L(edge_one_\s0\()_\@)
        str     d\s0, [cell], #8
        ext     v\s0\().16b, v\s0\().16b, v\s0\().16b, #8
L(edge_one_\s0\()_\@):
        tbz     columns, #0, L(edge_end_\s0\()_\@)
        str     s\s0, [cell]
L(edge_end_\s0\()_\@):
        add     c_ptr, c_ptr, ldc
.endm

/* One tile of C, from its products to its stores. */
.macro one_tile n
        mov     b_ptr, b_base
        cbz     groups, L(empty_\n)
        multiply_\n
        do_rows \n, add_lanes
L(summed_\n):
        ldr     q0, [col_start]
        do_rows \n, add_columns
        cbz     row_start, L(started_\n)
        do_rows \n, add_row_start
L(started_\n):
        cmp     columns, #4
        b.lo    L(narrow_\n)
        do_rows \n, store_row
        b       L(stored_\n)

        // No k: nothing but start values.
L(empty_\n):
        do_rows \n, clear_row
        b       L(summed_\n)
L(narrow_\n):
        do_rows \n, store_row_edge
L(stored_\n):
.endm

/* What a tile without start values of columns begins with. */
constants no_columns
        .skip   16

/* B's panel stays in the first-level cache while the block of A, sized by the caller to the second, passes by. */
function smull_4x4, framed
        open_frame d8, d9, 64
        keep    d10, d11, 16
        keep    d12, d13, 32
        keep    d14, d15, 48
        frame_stands
        ldp     c_base, ldc, [args, #16]
        ldp     rows_all, columns, [args, #32]
        ldp     groups, row_start, [args, #48]
        ldr     col_start, [args, #64]
        ldp     a_base, b_base, [args]
        lsr     groups, groups, #4

        // An empty C has no tile.
        cbz     rows_all, L(finished)
        cbz     columns, L(finished)

        // Without start values of columns every panel reads the same zeros.
        mov     col_step, #16
        cbnz    col_start, L(next_columns)
        address_of col_start, no_columns
        mov     col_step, #0

L(next_columns):
        mov     a_ptr, a_base
        mov     c_ptr, c_base
        mov     row_ptr, row_start
        mov     rows, rows_all
        subs    rows, rows, #4
        b.lo    L(last_rows)

L(next_rows):
        one_tile 4
        subs    rows, rows, #4
        b.hs    L(next_rows)

        // The bits of m % 4, which 4 less has too, say which smaller panels follow.
L(last_rows):
        tbz     rows, #1, L(last_one)
        one_tile 2
L(last_one):
        tbz     rows, #0, L(columns_done)
        one_tile 1

        // Whichever tile came last, it left b_ptr at the end of B's panel.
L(columns_done):
        mov     b_base, b_ptr
        add     c_base, c_base, #16
        add     col_start, col_start, col_step
        subs    columns, columns, #4
        b.hi    L(next_columns)

L(finished):
        leave_frame
        give_back d14, d15, 48
        give_back d12, d13, 32
        give_back d10, d11, 16
        close_frame d8, d9, 64
        ret
endfunction smull_4x4, framed
