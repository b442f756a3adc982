/*
 * Kernel:     gather_columns_i8k2
 * Computes:   ColumnsI8K2: element (k, j) of a panel of 4 at (k / 2) * 8 + 2j + k % 2, from rows that lie anywhere
 * Prototype:  void pyint8dot_gather_columns_i8k2(const int64_t args[5])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    ColumnsI8K2(4), K group 2
 * Arguments:  x0 = args:
 *             [0] base    const int8_t *   element (k, j) at base + table[k] + j
 *             [1] packed  int8_t *         panels of 4 columns, zeros beyond the last; k bytes a column
 *             [2] k       depth, a multiple of 2, >= 0; at 0 nothing is written
 *             [3] mn      columns, 0 or >= 4
 *             [4] table   const int64_t [k]
 * Clobbers:   x0-x13, flags
 * Unused:     x14-x30, v0-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define width           x0      /* 4, once the arguments are read */
#define base            x1      /* where row 0 would be if its table entry were 0, at this panel's column */
#define dst             x2      /* next packed byte */
#define depth           x3      /* k */
#define columns         x4      /* columns left, this panel's included */
#define table           x5
#define next            x6      /* table entry of the next k */
#define left            x7      /* k of this panel not packed yet */
#define row0            x8      /* the two rows of the K group at hand */
#define row1            x9
#define valid           x10     /* columns of this panel that exist */
#define index           x11     /* column at hand */
#define byte0           w12
#define byte1           w13

function gather_columns_i8k2
        ldp     base, dst, [args]
        ldp     depth, columns, [args, #16]
        ldr     table, [args, #32]
        cbz     depth, L(finished)
        cbz     columns, L(finished)
        mov     width, #4

L(next_panel):
        cmp     columns, width
        csel    valid, columns, width, lo
        mov     next, table
        mov     left, depth

        // Two rows side by side, column by column; zeros stand in the place of columns that do not exist.
L(next_group):
        ldp     row0, row1, [next], #16
        add     row0, base, row0
        add     row1, base, row1
        mov     index, #0
L(next_column):
        mov     byte0, #0
        mov     byte1, #0
        cmp     index, valid
        b.hs    L(put_column)
        ldrb    byte0, [row0, index]
        ldrb    byte1, [row1, index]
L(put_column):
        strb    byte0, [dst], #1
        strb    byte1, [dst], #1
        add     index, index, #1
        cmp     index, width
        b.lo    L(next_column)
        subs    left, left, #2
        b.ne    L(next_group)

        add     base, base, width
        subs    columns, columns, width
        b.hi    L(next_panel)

L(finished):
        ret
endfunction gather_columns_i8k2
