/*
 * Kernel:     product_f32
 * Computes:   y[i][j] = start[i][j] + sum over l of a[i][l] * b[l][j], a chain of fused multiply-adds in the order of l
 * Prototype:  void pyint8dot_product_f32(const int64_t args[10])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] a         const float *  m rows of k
 *             [1] b         const float *  panels of 16 columns, each k rows of 16
 *             [2] y         float *        m rows of 16 for each panel
 *             [3] start     const float *  likewise; may be y
 *             [4] ld_a      bytes from a row of a to the next
 *             [5] ld_y      bytes from a row of y to the next
 *             [6] ld_start  bytes from a row of start to the next; 0 where all have the same
 *             [7] m         rows, >= 0
 *             [8] k         >= 0
 *             [9] panels    >= 0
 * Clobbers:   x1-x17, v0-v7, v16-v31, flags
 * Unused:     x18, x21-x30, v8-v15
 * Stack:      16, keeps x19-x20
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "chains.h"

#define args            x0

function product_f32, framed
        open_frame x19, x20, 16
        frame_stands
        ldp     a_at, b_all, [args]
        ldp     y_at, start_at, [args, #16]
        ldp     ld_a, ld_y, [args, #32]
        ldp     ld_start, rows, [args, #48]
        ldp     depth, panels, [args, #64]
        cbz     panels, L(finished)

        // All rows, tile by tile.
        chains
L(finished):
        leave_frame
        close_frame x19, x20, 16
        ret
endfunction product_f32, framed
