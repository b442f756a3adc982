/*
 * The product of few columns: tiles of 4 rows by 1 column, over A as it lies.
 *
 * A matrix that meets few columns is read about once for each of them, so packing it would
 * cost as much as multiplying it.  Its rows are read where they are, K contiguous, 64 bytes
 * of each a turn; a column of B is K contiguous too and serves four rows.  A row of the tile
 * has two registers, whose lanes are sums over a part of K until they are added up at its end:
 *
 *          row 0    v16 v17        row 2    v20 v21
 *          row 1    v18 v19        row 3    v22 v23
 *
 * Rows go by outside and columns inside, so that four rows of A are fetched once, however
 * many columns there are.  The last m % 4 rows are tiles of one row, in v16..v19.
 *
 * What k leaves after whole turns is read in pieces of 16 bytes, then of 8, 4, 2 and 1, as
 * the bits of k say: nothing beyond a row is read, and no byte has to be masked off.
 *
 * A kernel defines, after this header, the macros
 *   multiply sum, other, a, b              add the products of 16 bytes to one sum, or to two
 *   multiply_two sum, other, a0, a1, b0, b1    the same of 32 bytes
 * whose arguments are numbers of registers; they may change v28, v29 and those of A.
 * `gemm_4x1` is then the body of the entry.
 */
#ifndef PYINT8DOT_NARROW_H
#define PYINT8DOT_NARROW_H

#define args            x0
#define pad             x0      /* bytes from the end of a column of B to the next, once the arguments are read */
#define a_base          x1      /* first row of this tile */
#define b_base          x2
#define c_base          x3      /* this tile's rows of C */
#define ldc             x4      /* bytes from a row of C to the next */
#define rows            x5      /* rows left */
#define columns         x6      /* n */
#define depth           x7      /* k */
#define row_start       x8      /* int32 of the rows left, or null */
#define col_start       x9      /* int32[n] or null */
#define lda             x10     /* bytes from a row of A to the next */
#define row0            x11     /* read pointers */
#define row1            x12
#define row2            x13
#define row3            x14
#define b_ptr           x15
#define column          x16     /* column at hand, from 0 */
#define counter         x17
#define flip_word       w17     /* 0x80 in every byte or 0, until the first tile */
#define c_ptr           x17     /* where a tile is stored, when nothing is left to count */

#define starts          v30     /* row_start of the tile's rows, or zeros */
#define flips           v31     /* 0x80 in every byte moves uint8 to int8 */

/* A register of A as int8: 0x80 in every byte moves uint8. */
.macro flip_byte register
        eor     v\register\().16b, v\register\().16b, flips.16b
.endm

/* 64 bytes of a row of A. */
.macro load_a row, r0, r1, r2, r3, flip
        ld1     {v\r0\().16b, v\r1\().16b, v\r2\().16b, v\r3\().16b}, [\row], #64
    .if \flip
        flip_byte \r0
        flip_byte \r1
        flip_byte \r2
        flip_byte \r3
    .endif
.endm

/* Four rows, 64 bytes of each: a row is loaded while the one before it is multiplied. */
.macro turn_4 flip
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [b_ptr], #64
        load_a  row0, 4, 5, 6, 7, \flip
        load_a  row1, 24, 25, 26, 27, \flip
        multiply_two 16, 17, 4, 5, 0, 1
        multiply_two 16, 17, 6, 7, 2, 3
        load_a  row2, 4, 5, 6, 7, \flip
        multiply_two 18, 19, 24, 25, 0, 1
        multiply_two 18, 19, 26, 27, 2, 3
        load_a  row3, 24, 25, 26, 27, \flip
        multiply_two 20, 21, 4, 5, 0, 1
        multiply_two 20, 21, 6, 7, 2, 3
        multiply_two 22, 23, 24, 25, 0, 1
        multiply_two 22, 23, 26, 27, 2, 3
.endm

/* One row: two loads stand beside each multiply, so that four sums are enough. */
.macro turn_1 flip
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [b_ptr], #64
        load_a  row0, 4, 5, 6, 7, \flip
        multiply_two 16, 17, 4, 5, 0, 1
        multiply_two 18, 19, 6, 7, 2, 3
.endm

/* A piece of every row, as wide as the register that takes it.  Flipped, what lies above the
 * piece is -128 in A, and it is 0 in B. */
.macro load_piece row, register, number, bytes, flip
        ldr     \register\()\number, [\row], #\bytes
    .if \flip
        flip_byte \number
    .endif
.endm

/* One piece of the last bytes of a row, and of the column beside it. */
.macro piece n, register, bytes, flip
        ldr     \register\()0, [b_ptr], #\bytes
        load_piece row0, \register, 4, \bytes, \flip
    .if \n == 4
        load_piece row1, \register, 5, \bytes, \flip
        load_piece row2, \register, 6, \bytes, \flip
        load_piece row3, \register, 7, \bytes, \flip
    .endif
        multiply 16, 17, 4, 0
    .if \n == 4
        multiply 18, 19, 5, 0
        multiply 20, 21, 6, 0
        multiply 22, 23, 7, 0
    .endif
.endm

/* The whole depth of one tile: turns of 64 bytes, then pieces. */
.macro depth_loops n, name, flip
        lsr     counter, depth, #6
        cbz     counter, L(rest_\n\()_\name)
L(main_\n\()_\name):
        turn_\n \flip
        subs    counter, counter, #1
        b.ne    L(main_\n\()_\name)

L(rest_\n\()_\name):
        tst     depth, #63
        b.eq    L(multiplied_\n\()_\name)
        ubfx    counter, depth, #4, #2
        cbz     counter, L(eight_\n\()_\name)
L(sixteen_\n\()_\name):
        piece   \n, q, 16, \flip
        subs    counter, counter, #1
        b.ne    L(sixteen_\n\()_\name)
L(eight_\n\()_\name):
        tbz     depth, #3, L(four_\n\()_\name)
        piece   \n, d, 8, \flip
L(four_\n\()_\name):
        tbz     depth, #2, L(two_\n\()_\name)
        piece   \n, s, 4, \flip
L(two_\n\()_\name):
        tbz     depth, #1, L(one_\n\()_\name)
        piece   \n, h, 2, \flip
L(one_\n\()_\name):
        tbz     depth, #0, L(padding_\n\()_\name)
        piece   \n, b, 1, \flip
L(padding_\n\()_\name):
        add     b_ptr, b_ptr, pad
L(multiplied_\n\()_\name):
.endm

/* Every tile of C, four rows after four rows and column by column. */
.macro walk name, flip
L(next_four_\name):
        subs    rows, rows, #4
        b.lo    L(last_rows_\name)
        cbz     row_start, L(columns_4_\name)
        ldr     q30, [row_start], #16
L(columns_4_\name):
        mov     b_ptr, b_base
        mov     column, #0

        // One tile of four rows.
L(tile_4_\name):
        mov     row0, a_base
        add     row1, a_base, lda
        add     row2, a_base, lda, lsl #1
        add     row3, row1, lda, lsl #1
        movi    v16.4s, #0
        movi    v17.4s, #0
        movi    v18.4s, #0
        movi    v19.4s, #0
        movi    v20.4s, #0
        movi    v21.4s, #0
        movi    v22.4s, #0
        movi    v23.4s, #0
        depth_loops 4, \name, \flip

        // Lanes in pairs, then pairs in pairs: a lane a row.
        addp    v16.4s, v16.4s, v17.4s
        addp    v18.4s, v18.4s, v19.4s
        addp    v20.4s, v20.4s, v21.4s
        addp    v22.4s, v22.4s, v23.4s
        addp    v16.4s, v16.4s, v18.4s
        addp    v20.4s, v20.4s, v22.4s
        addp    v16.4s, v16.4s, v20.4s
        add     v16.4s, v16.4s, starts.4s
        cbz     col_start, L(store_4_\name)
        add     c_ptr, col_start, column, lsl #2
        ld1r    {v0.4s}, [c_ptr]
        add     v16.4s, v16.4s, v0.4s
L(store_4_\name):
        add     c_ptr, c_base, column, lsl #2
        st1     {v16.s}[0], [c_ptr], ldc
        st1     {v16.s}[1], [c_ptr], ldc
        st1     {v16.s}[2], [c_ptr], ldc
        st1     {v16.s}[3], [c_ptr]
        add     column, column, #1
        cmp     column, columns
        b.lo    L(tile_4_\name)
        add     a_base, a_base, lda, lsl #2
        add     c_base, c_base, ldc, lsl #2
        b       L(next_four_\name)

        // At most three rows are left, each with a start value of its own.
L(last_rows_\name):
        adds    rows, rows, #4
        b.eq    L(walked_\name)
L(next_row_\name):
        cbz     row_start, L(columns_1_\name)
        ldr     s30, [row_start], #4
L(columns_1_\name):
        mov     b_ptr, b_base
        mov     column, #0

        // One tile of one row.
L(tile_1_\name):
        mov     row0, a_base
        movi    v16.4s, #0
        movi    v17.4s, #0
        movi    v18.4s, #0
        movi    v19.4s, #0
        depth_loops 1, \name, \flip
        add     v16.4s, v16.4s, v17.4s
        add     v18.4s, v18.4s, v19.4s
        add     v16.4s, v16.4s, v18.4s
        addv    s16, v16.4s
        add     v16.2s, v16.2s, starts.2s
        cbz     col_start, L(store_1_\name)
        ldr     s0, [col_start, column, lsl #2]
        add     v16.2s, v16.2s, v0.2s
L(store_1_\name):
        str     s16, [c_base, column, lsl #2]
        add     column, column, #1
        cmp     column, columns
        b.lo    L(tile_1_\name)
        add     a_base, a_base, lda
        add     c_base, c_base, ldc
        subs    rows, rows, #1
        b.ne    L(next_row_\name)
L(walked_\name):
        b       L(finished)
.endm

/* int8 rows of A have a walk without the exclusive or of uint8 ones. */
.macro gemm_4x1
        ldp     a_base, b_base, [args]
        ldp     c_base, ldc, [args, #16]
        ldp     rows, columns, [args, #32]
        ldp     depth, row_start, [args, #48]
        ldp     col_start, lda, [args, #64]
        ldr     counter, [args, #80]
        dup     flips.4s, flip_word
        movi    starts.4s, #0
        neg     pad, depth
        and     pad, pad, #15
        cbz     columns, L(finished)
        cbz     flip_word, L(plain)
        walk    flipped, 1
L(plain):
        walk    plain, 0
L(finished):
        ret
.endm

#endif
