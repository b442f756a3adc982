/*
 * Kernel:     sdot_rows_8x8
 * Computes:   C[i][j] = row_start[i] + col_start[j] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_sdot_rows_8x8(const int64_t args[11])
 * Requires:   FEAT_DotProd
 * Tile:       8 x 8
 * Packing:    PackedI8K4(8), K group 4
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   A as it lies: m rows of k bytes, lda apart
 *             [1] b          const int8_t *   ceil(n / 8) panels of 8 columns, zeros beyond n; k rounded up to 4 bytes
 *                                             a column, zeros beyond k
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          depth in bytes, not rounded, >= 0; at 0 C is only the start values
 *             [7] row_start  const int32_t [m] or null
 *             [8] col_start  const int32_t [n rounded up to 8] or null
 *             [9] lda        bytes from a row of A to the next, any sign
 *             [10] flip      0x80808080 reads A as uint8 moved to int8, 0 reads int8 as it is; its lower 32 bits count
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags
 * Unused:     x18, x27-x30
 * Stack:      128, keeps x19-x26, d8-d15
 * Over-read:  none
 * Bound:      exact for k <= 131071, the sum of k products of -128 x -128; beyond it wraps like numpy's int32
 */
#define MR              8
#define NR              8
#define GROUP_LOG2      2
#include "asm.h"
#include "tile.h"

#define row0            x0      /* read pointers of the first four rows of the tile, once the arguments are read */
#define row1            x19
#define row2            x20
#define row3            x21
#define far             x22     /* bytes from a row to the fourth after it */
#define near            x23     /* the same from where a row has been read 16 bytes further */
#define turns           x24     /* of 32 k in a tile */
#define sixteens        x25     /* pieces of 16 k after them */
#define flip            x26
#define flip_word       w26

/* Dot products are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension dotprod
#else
        .arch   armv8.2-a+dotprod
#endif

/* A row of the tile is at hand in a register of A, 16 k of it: rows 4 to 7 in v8..v11, the first
 * four in v0, v2, v4 and v6, and 16 k more of them in v1, v3, v5 and v7.  B passes through
 * v12..v15, two registers a K group. */
.macro dot low, high, b0, b1, word, lane
        sdot    v\low\().4s, v\b0\().16b, v\word\().4b[\lane]
        sdot    v\high\().4s, v\b1\().16b, v\word\().4b[\lane]
.endm

/* Every row, one K group.  Few rows spread the groups of 16 k over further sums, so that eight
 * are under way. */
.macro dot_rows n, lane, b0, b1, a0, a1, a2, a3
    .if \n >= 4
        dot     16, 17, \b0, \b1, \a0, \lane
        dot     18, 19, \b0, \b1, \a1, \lane
        dot     20, 21, \b0, \b1, \a2, \lane
        dot     22, 23, \b0, \b1, \a3, \lane
    .endif
    .if \n == 8
        dot     24, 25, \b0, \b1, 8, \lane
        dot     26, 27, \b0, \b1, 9, \lane
        dot     28, 29, \b0, \b1, 10, \lane
        dot     30, 31, \b0, \b1, 11, \lane
    .endif
    .if \n == 2 && (\lane & 1) == 0
        dot     16, 17, \b0, \b1, \a0, \lane
        dot     18, 19, \b0, \b1, \a1, \lane
    .elseif \n == 2
        dot     20, 21, \b0, \b1, \a0, \lane
        dot     22, 23, \b0, \b1, \a1, \lane
    .endif
    .if \n == 1 && \lane == 0
        dot     16, 17, \b0, \b1, \a0, 0
    .elseif \n == 1 && \lane == 1
        dot     18, 19, \b0, \b1, \a0, 1
    .elseif \n == 1 && \lane == 2
        dot     20, 21, \b0, \b1, \a0, 2
    .elseif \n == 1
        dot     22, 23, \b0, \b1, \a0, 3
    .endif
.endm

/* Two K groups, then four. */
.macro dot_eight n, lane0, lane1, a0, a1, a2, a3
        ld1     {v12.16b, v13.16b, v14.16b, v15.16b}, [b_ptr], #64
        dot_rows \n, \lane0, 12, 13, \a0, \a1, \a2, \a3
        dot_rows \n, \lane1, 14, 15, \a0, \a1, \a2, \a3
.endm

/* Four K groups, which are sixteen bytes of every row. */
.macro dot_sixteen n, a0, a1, a2, a3
        dot_eight \n, 0, 1, \a0, \a1, \a2, \a3
        dot_eight \n, 2, 3, \a0, \a1, \a2, \a3
.endm

/* A piece of rows 4 to 7, as wide as the registers that take it; no pointer moves. */
.macro load_far register, distance
        ldr     \register\()8, [row0, \distance]
        ldr     \register\()9, [row1, \distance]
        ldr     \register\()10, [row2, \distance]
        ldr     \register\()11, [row3, \distance]
.endm

/* A piece of every row; the pointers move on. */
.macro load_piece n, register, bytes
    .if \n == 8
        load_far \register, far
    .endif
        ldr     \register\()0, [row0], #\bytes
    .if \n > 1
        ldr     \register\()2, [row1], #\bytes
    .endif
    .if \n > 2
        ldr     \register\()4, [row2], #\bytes
        ldr     \register\()6, [row3], #\bytes
    .endif
.endm

/* The same 32 k at once.  Registers are too few for all of it: of rows 4 to 7 the second half
 * comes when the first one is done with. */
.macro turn n
    .if \n == 8
        load_far q, far
    .endif
        ldp     q0, q1, [row0], #32
    .if \n > 1
        ldp     q2, q3, [row1], #32
    .endif
    .if \n > 2
        ldp     q4, q5, [row2], #32
        ldp     q6, q7, [row3], #32
    .endif
        dot_sixteen \n, 0, 2, 4, 6
    .if \n == 8
        load_far q, near
    .endif
        dot_sixteen \n, 1, 3, 5, 7
.endm

/* uint8 pieces are moved to int8.  What lies above a piece meets zeros of B, or no lane. */
.macro flip_byte register
        eor     v\register\().16b, v\register\().16b, v1.16b
.endm

/* The same for a piece of every row. */
.macro flip_piece n
        cbz     flip, L(flipped_\@)
        dup     v1.4s, flip_word
        flip_byte 0
    .if \n > 1
        flip_byte 2
    .endif
    .if \n > 2
        flip_byte 4
        flip_byte 6
    .endif
    .if \n == 8
        flip_byte 8
        flip_byte 9
        flip_byte 10
        flip_byte 11
    .endif
L(flipped_\@):
.endm

/* The third byte of a K group of which two are at hand. */
.macro insert_byte number, row, distance
        ldr     b12, [\row, \distance]
        ins     v\number\().b[2], v12.b[0]
.endm

/* The third byte for every row. */
.macro insert_bytes n
        insert_byte 0, row0, #0
    .if \n > 1
        insert_byte 2, row1, #0
    .endif
    .if \n > 2
        insert_byte 4, row2, #0
        insert_byte 6, row3, #0
    .endif
    .if \n == 8
        insert_byte 8, row0, far
        insert_byte 9, row1, far
        insert_byte 10, row2, far
        insert_byte 11, row3, far
    .endif
.endm

/* The last one, two or three bytes of every row. */
.macro load_end n
        tbz     depth, #1, L(one_byte_\n)
        load_piece \n, h, 2
        tbz     depth, #0, L(end_loaded_\n)
        insert_bytes \n
        b       L(end_loaded_\n)
L(one_byte_\n):
        load_piece \n, b, 1
L(end_loaded_\n):
.endm

/* One K group of B. */
.macro dot_group n
        ld1     {v12.16b, v13.16b}, [b_ptr], #32
        dot_rows \n, 0, 12, 13, 0, 2, 4, 6
.endm

/* The whole depth of one tile: turns of 32 bytes of a row, then pieces of 16, and as the bits
 * of k say of 8, of 4 and of less: nothing beyond a row is read. */
.macro multiply_rows n
        mov     row0, a_ptr
    .if \n > 1
        add     row1, a_ptr, far, asr #2
    .endif
    .if \n > 2
        add     row2, a_ptr, far, asr #1
        add     row3, row1, far, asr #1
    .endif

        // uint8 has no turn, and a piece more for every half of one.
        cbz     turns, L(sixteens_\n)
        mov     counter, turns
L(turn_\n):
        turn    \n
        subs    counter, counter, #1
        b.ne    L(turn_\n)

L(sixteens_\n):
        cbz     sixteens, L(eight_\n)
        mov     counter, sixteens
L(sixteen_\n):
        load_piece \n, q, 16
        flip_piece \n
        dot_sixteen \n, 0, 2, 4, 6
        subs    counter, counter, #1
        b.ne    L(sixteen_\n)

L(eight_\n):
        tst     depth, #15
        b.eq    L(multiplied_\n)
        tbz     depth, #3, L(four_\n)
        load_piece \n, d, 8
        flip_piece \n
        dot_eight \n, 0, 1, 0, 2, 4, 6
L(four_\n):
        tbz     depth, #2, L(end_\n)
        load_piece \n, s, 4
        flip_piece \n
        dot_group \n
L(end_\n):
        tst     depth, #3
        b.eq    L(multiplied_\n)
        load_end \n
        flip_piece \n
        dot_group \n

        // The next tile begins with the row after the last.
L(multiplied_\n):
    .if \n == 8
        add     a_ptr, a_ptr, far, lsl #1
    .elseif \n == 4
        add     a_ptr, a_ptr, far
    .elseif \n == 2
        add     a_ptr, a_ptr, far, asr #1
    .endif
.endm

/* The sums of a tile, whose layout is theirs from the start. */
.macro sum_rows n
        sum_tile \n, multiply_rows
.endm

/* Packing A costs as much as multiplying it with four columns.  Where C is narrow, its rows are
 * better read once for every panel of B: sums and operands then take every vector register, and
 * eight rows four pointers, the other four rows being a fixed distance away. */
function sdot_rows_8x8, framed
        open_frame d8, d9, 128
        keep    d10, d11, 16
        keep    d12, d13, 32
        keep    d14, d15, 48
        keep    x19, x20, 64
        keep    x21, x22, 80
        keep    x23, x24, 96
        keep    x25, x26, 112
        frame_stands

        // How far rows 4 to 7 are from rows 0 to 3, and how often 32 and 16 bytes are taken of each.
        read_arguments
        ldr     far, [args, #72]
        ldr     flip_word, [args, #80]
        lsl     far, far, #2
        sub     near, far, #16
        lsr     turns, depth, #5
        ubfx    sixteens, depth, #4, #1
        // uint8 is moved to int8 by pieces of 16.
        cbz     flip, L(as_it_is)
        mov     turns, #0
        lsr     sixteens, depth, #4
L(as_it_is):
        walk    sum_rows
        leave_frame
        give_back x25, x26, 112
        give_back x23, x24, 96
        give_back x21, x22, 80
        give_back x19, x20, 64
        give_back d14, d15, 48
        give_back d12, d13, 32
        give_back d10, d11, 16
        close_frame d8, d9, 128
        ret
endfunction sdot_rows_8x8, framed
