/*
 * Kernel:     gather_i8k16
 * Computes:   PackedI8K16 complemented: element (k, j) of a panel of 4 at (k / 16) * 64 + 16j + k % 16, from rows that lie
 *             anywhere, all bytes of k % 16 >= 8 complemented
 * Prototype:  void pyint8dot_gather_i8k16(const int64_t args[5])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    PackedI8K16(4, complement), K group 16
 * Arguments:  x0 = args:
 *             [0] base    const int8_t *   element (k, j) at base + table[k] + j
 *             [1] packed  int8_t *         panels of 4 columns, zeros beyond the last, complemented like values; k bytes a column
 *             [2] k       depth, a multiple of 16, >= 0; at 0 nothing is written
 *             [3] mn      columns, 0 or >= 4
 *             [4] table   const int64_t [k]
 * Clobbers:   x1-x12, v0-v7, v16-v24, v30, flags
 * Unused:     x13-x30, v8-v15, v25-v29, v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "group16.h"

#define args            x0
#define base            x1      /* where row 0 would be if its table entry were 0, at this panel's column */
#define dst             x2      /* next packed byte */
#define depth           x3      /* k */
#define columns         x4      /* columns left */
#define table           x5
#define next            x6      /* table entry of the next k */
#define left            x7      /* k of this panel not packed yet */
#define dst_high        x8      /* next packed byte of the second of two panels */
#define drop            x9      /* columns read with a last panel that were packed before */
#define counter         x10
#define row0            x11
#define row1            x12

#define nothing         v24     /* a column that is not there */

/* Two k of as many columns as a register of that width has bytes. */
.macro load_two width, r0, r1
        ldp     row0, row1, [next], #16
        ldr     \width\r0, [base, row0]
        ldr     \width\r1, [base, row1]
.endm

/* Sixteen k. */
.macro load_turn width
        load_two \width, 0, 1
        load_two \width, 2, 3
        load_two \width, 4, 5
        load_two \width, 6, 7
        load_two \width, 16, 17
        load_two \width, 18, 19
        load_two \width, 20, 21
        load_two \width, 22, 23
.endm

function gather_i8k16
        ldp     base, dst, [args]
        ldp     depth, columns, [args, #16]
        ldr     table, [args, #32]
        cbz     depth, L(finished)
        cbz     columns, L(finished)
        movi    nothing.16b, #0
        mvni    v30.4s, #0
        mov     flips.d[0], nothing.d[0]

        // Two panels side by side while 8 columns are left.
L(next_pair):
        subs    columns, columns, #8
        b.lo    L(single)
        mov     next, table
        mov     left, depth
        add     dst_high, dst, depth, lsl #2
L(turn_8):
        load_turn d
        transpose_8
        put_groups dst, 16, 17, 18, 19
        put_groups dst_high, 20, 21, 22, 23
        subs    left, left, #16
        b.ne    L(turn_8)
        mov     dst, dst_high
        add     base, base, #8
        b       L(next_pair)

        // Then one, the last of which goes back to the 4 columns that end here.
L(single):
        adds    columns, columns, #8
        b.eq    L(finished)
L(next_single):
        mov     drop, #0
        cmp     columns, #4
        b.hs    L(whole)
        mov     drop, #4
        sub     drop, drop, columns
        sub     base, base, drop
L(whole):
        mov     next, table
        mov     left, depth
L(turn_4):
        load_turn s
        transpose_4
        cbz     drop, L(put)
        mov     counter, drop
        drop_columns counter, nothing
L(put):
        put_groups dst, 16, 17, 18, 19
        subs    left, left, #16
        b.ne    L(turn_4)
        add     base, base, #4
        subs    columns, columns, #4
        b.hi    L(next_single)

L(finished):
        ret
endfunction gather_i8k16
