/*
 * Kernel:     smmla_planes_8x8
 * Computes:   C[i][j] = row_start[i] + sum over p of A[i][p] * B[p][j], mod 2^32
 * Prototype:  void pyint8dot_smmla_planes_8x8(const int64_t args[11])
 * Requires:   FEAT_I8MM
 * Tile:       8 x 8
 * Packing:    PackedI8K8(8), K group 8
 * Arguments:  x0 = args:
 *             [0] a          const int8_t *   panels of 8 rows, then of 4, 2, 1 as m % 8 has bits; count * k bytes a row
 *             [1] b          const int8_t *   K group g of run r and column j at b + runs[r] + g * plane + 8 j, 8 bytes;
 *                                             n rounded up to 8 columns
 *             [2] c          int32_t *        row-major, 4 n bytes written in each of m rows
 *             [3] ldc        bytes from a row of C to the next, any sign
 *             [4] m          rows of C, >= 0
 *             [5] n          columns of C, >= 0
 *             [6] k          depth of a run, a multiple of 8, >= 0; at 0 C is only the start values
 *             [7] row_start  const int32_t [m][8]   each row's, eight times
 *             [8] plane      bytes from a K group of a run to the next, any sign
 *             [9] runs       const int64_t [count]   bytes from b, any sign
 *             [10] count     runs, >= 1
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags
 * Unused:     x18, x21-x30
 * Stack:      80, keeps x19-x20, d8-d15
 * Over-read:  none
 * Bound:      exact for count * k <= 131071, sums of products of -128 x -128; beyond it wraps like numpy's int32
 */
#define MR              8
#define NR              8
#define GROUP_LOG2      3
#define TURN_4          1
#define TURN_2          2
#define TURN_1          3
#include "asm.h"
#include "tile.h"
#include "planes.h"
#include "smmla.h"

/* Matrix multiplies are allowed from here to the end of this file only. */
#if defined(__APPLE__)
        .arch_extension i8mm
#else
        .arch   armv8.2-a+i8mm
#endif

/* What a row pair starts from, in both columns of each block: the last two of the first row's values and
 * the first two of the second's, which lie side by side. */
.macro start_rows s0, s1, s2, s3
        add     t0, row_ptr, #24
        ldr     q\s0, [t0]
        ldr     q\s1, [t0]
        ldr     q\s2, [t0]
        ldr     q\s3, [t0]
        add     row_ptr, row_ptr, #64
.endm

/* The same of a single row, which has one half of its blocks. */
.macro start_row
        ldr     d8, [row_ptr]
        ldr     d9, [row_ptr]
        ldr     d10, [row_ptr]
        ldr     d11, [row_ptr]
        add     row_ptr, row_ptr, #32
.endm

/* Runs of four K groups, of eight rows: the first of a run is loaded while the last of the one before it
 * is multiplied. */
.macro whole_runs
        next_run
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [a_ptr], #64
        load_group 4, 5, 6, 7
        b       L(first_run)
L(whole_run):
        next_run
        odd_group
L(first_run):
        even_group
        odd_group
        even_group
        cmp     run_ptr, runs_end
        b.ne    L(whole_run)
        multiply_last 24, 25, 26, 27, 28, 29, 30, 31
.endm

/* One run of any depth. */
.macro multiply_run n
    .if \n == 8
        cbz     depth, L(multiplied_8)
        multiply_ahead
L(multiplied_8):
    .else
        multiply_panels \n
    .endif
.endm

/* The sums of a tile: by blocks until it is done. */
.macro sum_runs n
        clear_odd \n
    .if \n == 1
        start_row
    .else
        do_pairs \n, start_rows
    .endif
        multiply_runs \n, multiply_run
        unblock \n
.endm

/* Sums and two K groups of operands take every vector register. */
function smmla_planes_8x8, framed
        open_frame d8, d9, 80
        keep    d10, d11, 16
        keep    d12, d13, 32
        keep    d14, d15, 48
        keep    x19, x20, 64
        frame_stands
        gemm_planes sum_runs
        // What belongs to the caller goes back.
        leave_frame
        give_back x19, x20, 64
        give_back d14, d15, 48
        give_back d12, d13, 32
        give_back d10, d11, 16
        close_frame d8, d9, 80
        ret
endfunction smmla_planes_8x8, framed
