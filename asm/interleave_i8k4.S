/*
 * Kernel:     interleave_i8k4
 * Computes:   y[p][i][j][q] = x[4 p + q][i][step j], the top bit turned over where flip says so
 * Prototype:  void pyint8dot_interleave_i8k4(const int64_t args[11])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x         const int8_t * or const uint8_t *
 *             [1] y         int8_t *; shares no memory with x
 *             [2] groups    of 4 channels, each a plane of y, >= 0
 *             [3] rows      of a plane, >= 0
 *             [4] n         pixels of a row of y, >= 0; each is 4 bytes
 *             [5] plane_x   bytes from a channel of x to the next
 *             [6] plane_y   bytes from a plane of y to the next
 *             [7] row_x     bytes from a row of x to the next
 *             [8] row_y     the same of y
 *             [9] step      bytes of x from one pixel of a row to the next, >= 1
 *             [10] flip     0x80 to turn the top bits over, or 0
 * Clobbers:   x1-x17, v0-v7, v16-v19, v28-v29, v31, flags
 * Unused:     x18-x30, v8-v15, v20-v27, v30
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#define GROUP 4
#include "asm.h"
#include "interleave.h"
#include "group4.h"

/* Pairs of channels, then pairs of pairs, give the four of a pixel in a word. */
.macro put_16
        group_all
        st1     {v16.16b, v17.16b, v18.16b, v19.16b}, [y_ptr], #64
.endm

/* The same of eight pixels. */
.macro put_8
        group_low
        st1     {v16.16b, v17.16b}, [y_ptr], #32
.endm

function interleave_i8k4
        interleave_rows
endfunction interleave_i8k4
