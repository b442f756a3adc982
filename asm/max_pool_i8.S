/*
 * Kernel:     max_pool_i8
 * Computes:   y[p][i][j] = the greatest int8 of the window of (i, j) in plane p of x
 * Prototype:  void pyint8dot_max_pool_i8(const int64_t args[5])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x         const int8_t *  planes, one after the other
 *             [1] y         int8_t *        planes of rows, one after the other; shares no memory with x
 *             [2] planes    >= 0
 *             [3] geometry  const int64_t [12 + 4 rows]:
 *                           [0]     bytes of a row of x, > 0
 *                           [1..2]  rows of a plane of y, > 0, and bytes of a row, > 0
 *                           [3..5]  of the columns of a window: bytes from the first to the second and to the
 *                                   third, or to the last where there are fewer, and how many more there are
 *                           [6]     bytes from a column of the window to the next
 *                           [7]     columns of x from a window to the next, > 0
 *                           [8]     bytes from a row of the window to the next
 *                           [9]     bytes of padding before a row of x
 *                           [10]    bytes of a row of x with padding on both sides, as far as windows reach
 *                           [11]    bytes of a plane of x
 *                           [12..]  four words a row of y: bytes from a plane to the first row of its windows
 *                                   that lies in x, then of those that do as [3..5] of the columns
 *             [4] line      working memory, 96 bytes more than geometry[10]
 * Clobbers:   x1-x17, v0-v4, v7, flags
 * Unused:     x18-x30, v5-v6, v8-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#define SIZE_LOG2       0
#include "asm.h"
#include "max_pool.h"

/* What changes no maximum. */
.macro lowest to
        movi    v\to\().16b, #0x80
.endm

/* The greater values of two registers. */
.macro maximum to, a, b
        smax    v\to\().16b, v\a\().16b, v\b\().16b
.endm

/* Every second value of two registers. */
.macro even to, a, b
        uzp1    v\to\().16b, v\a\().16b, v\b\().16b
.endm

/* One value to the first lane. */
.macro load_one to, from
        ldr     b\to, [\from]
.endm

/* One value from the first lane, the address moved on. */
.macro store_one from, to
        str     b\from, [\to], #1
.endm

function max_pool_i8
        // Planes, rows and columns: see the header.
        max_pool
endfunction max_pool_i8
