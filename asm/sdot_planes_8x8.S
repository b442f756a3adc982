/*
 * Kernel:     sdot_planes_8x8
 * Computes:   C[i][j] = row_start[i] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_sdot_planes_8x8(const int64_t args[11])
 * Requires:   FEAT_DotProd
 * Tile:       8 x 8
 * Packing:    PackedI8K4(8), K group 4
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   panels of 8 rows, then of 4, 2, 1 as m % 8 has bits; count * k bytes a row
 *             [1] b          const int8_t *   K group g of run r and column j at b + runs[r] + g * plane + 4 j, 4 bytes;
 *                                             n rounded up to 8 columns
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          depth of a run, a multiple of 4, >= 0; at 0 C is only the start values
 *             [7] row_start  const int32_t [m][8]   each row's, eight times
 *             [8] plane      bytes from a K group of a run to the next, any sign
 *             [9] runs       const int64_t [count]   bytes from b, any sign
 *             [10] count     runs, >= 1
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags
 * Unused:     x18, x21-x30, v8-v15
 * Stack:      16, keeps x19-x20
 * Over-read:  none
 * Bound:      exact for count * k <= 131071, sums of products of -128 x -128; beyond it wraps like numpy's int32
 */
#define MR              8
#define NR              8
#define GROUP_LOG2      2
#define TURN_8          2
#define TURN_4          2
#define TURN_2          3
#define TURN_1          4
#include "asm.h"
#include "tile.h"
#include "planes.h"
#include "sdot.h"

/* Dot products are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension dotprod
#else
        .arch   armv8.2-a+dotprod
#endif

/* Four K groups a turn: two groups of operands fill v0..v7, twice. */
.macro main_8
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        load_two_groups 4, 5, 6, 7
        dot_8   0, 1, 4, 5
        dot_8   2, 3, 6, 7
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        load_two_groups 4, 5, 6, 7
        dot_8   0, 1, 4, 5
        dot_8   2, 3, 6, 7
.endm

/* One K group of eight rows. */
.macro rest_8
        ld1     {v0.16b, v1.16b}, [a_ptr], #32
        load_group 4, 5
        dot_8   0, 1, 4, 5
.endm

/* A run of eight K groups, of eight rows. */
.macro whole_run
        next_run
        main_8
        main_8
.endm

/* All of them, two a turn, an odd one first. */
.macro whole_runs
        sub     t0, runs_end, runs
        tbnz    t0, #3, L(odd_run)
L(even_run):
        whole_run
L(odd_run):
        whole_run
        cmp     run_ptr, runs_end
        b.ne    L(even_run)
.endm

/* A row's own value in every column, as it lies: to copy it to lanes is work for the units that multiply. */
.macro load_start low, high
        ldp     q\low, q\high, [row_ptr], #32
.endm

/* The sums of a tile. */
.macro sum_runs n
        do_rows \n, load_start
        clear_spare \n
        multiply_runs \n, multiply_panels
        add_spare \n
.endm

/* A convolution's columns cost as much to pack as some eighty rows cost to multiply, and many times
 * the memory of the image: here they are read where they lie. */
function sdot_planes_8x8, framed
        open_frame x19, x20, 16
        frame_stands
        gemm_planes sum_runs
        // What belongs to the caller goes back.
        leave_frame
        close_frame x19, x20, 16
        ret
endfunction sdot_planes_8x8, framed
