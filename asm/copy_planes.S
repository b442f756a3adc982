/*
 * Kernel:     copy_planes
 * Computes:   y[p][i][j] = x[p][i][step j], the top bit turned over where flip says so
 * Prototype:  void pyint8dot_copy_planes(const int64_t args[11])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x         const int8_t * or const uint8_t *
 *             [1] y         int8_t *; shares no memory with x
 *             [2] planes    >= 0
 *             [3] rows      of a plane, >= 0
 *             [4] n         bytes of a row of y, >= 0
 *             [5] plane_x   bytes from a plane of x to the next
 *             [6] plane_y   the same of y
 *             [7] row_x     bytes from a row of x to the next
 *             [8] row_y     the same of y
 *             [9] step      bytes of x from one of a row to the next, >= 0; with 0 a row is filled with one byte
 *             [10] flip     0x80 to turn the top bits over, or 0
 * Clobbers:   x1-x15, v0-v3, v7, flags
 * Unused:     x16-x30, v4-v6, v8-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x               x1      /* the plane at hand */
#define y               x2
#define planes          x3      /* left */
#define columns         x4      /* of a row */
#define row_x           x5
#define row_y           x6
#define step            x7
#define rows            x8      /* left in the plane */
#define x_row           x9      /* the row at hand */
#define y_row           x10
#define x_ptr           x11
#define y_ptr           x12
#define left            x13     /* bytes left in the row */
#define t0              x14
#define t1              x15

#define flips           v7

/* The first and the last bytes of a row of fewer than two registers, which may be the same in part. */
.macro both_ends size, kind, bytes
        sub     left, left, #\size
        ldr     \kind\()0, [x_ptr]
        ldr     \kind\()1, [x_ptr, left]
        eor     v0.\bytes, v0.\bytes, flips.\bytes
        eor     v1.\bytes, v1.\bytes, flips.\bytes
        str     \kind\()0, [y_ptr]
        str     \kind\()1, [y_ptr, left]
        b       L(row_done)
.endm

function copy_planes
        ldp     x, y, [args]
        ldp     planes, t0, [args, #16]
        ldr     columns, [args, #32]
        ldp     row_x, row_y, [args, #56]
        ldp     step, t1, [args, #72]
        dup     flips.16b, w15
        cbz     planes, L(finished)
        cbz     t0, L(finished)
        cbz     columns, L(finished)

L(next_plane):
        ldr     rows, [args, #24]
        mov     x_row, x
        mov     y_row, y
L(next_row):
        mov     x_ptr, x_row
        mov     y_ptr, y_row
        mov     left, columns
        cmp     step, #2
        b.eq    L(every_second)
        b.hi    L(one)

        cbz     step, L(fill)

        // Neighbours: four registers while there are more, one while there are two, then both ends of what is left.
        cmp     left, #32
        b.lo    L(last)
        cmp     left, #64
        b.ls    L(sixteen)
L(sixty_four):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        sub     left, left, #64
        eor     v0.16b, v0.16b, flips.16b
        eor     v1.16b, v1.16b, flips.16b
        eor     v2.16b, v2.16b, flips.16b
        eor     v3.16b, v3.16b, flips.16b
        stp     q0, q1, [y_ptr], #32
        stp     q2, q3, [y_ptr], #32
        cmp     left, #64
        b.hi    L(sixty_four)
        cmp     left, #32
        b.lo    L(last)
L(sixteen):
        ldr     q0, [x_ptr], #16
        sub     left, left, #16
        eor     v0.16b, v0.16b, flips.16b
        str     q0, [y_ptr], #16
        cmp     left, #32
        b.hs    L(sixteen)
L(last):
        cmp     left, #16
        b.hs    L(ends_16)
        cmp     left, #8
        b.hs    L(ends_8)
        cmp     left, #4
        b.hs    L(ends_4)
        b       L(one)
L(ends_16):
        both_ends 16, q, 16b
L(ends_8):
        both_ends 8, d, 8b
L(ends_4):
        both_ends 4, s, 8b

        // Every second byte; the one behind the last may not be there, so the last of a row are not taken in pairs.
L(every_second):
        cmp     left, #16
        b.ls    L(second_eight)
        ld2     {v0.16b, v1.16b}, [x_ptr], #32
        sub     left, left, #16
        eor     v0.16b, v0.16b, flips.16b
        str     q0, [y_ptr], #16
        b       L(every_second)
L(second_eight):
        cmp     left, #8
        b.ls    L(one)
        ld2     {v0.8b, v1.8b}, [x_ptr], #16
        sub     left, left, #8
        eor     v0.8b, v0.8b, flips.8b
        str     d0, [y_ptr], #8

        // Byte by byte.
L(one):
        ldr     b0, [x_ptr]
        add     x_ptr, x_ptr, step
        eor     v0.8b, v0.8b, flips.8b
        str     b0, [y_ptr], #1
        subs    left, left, #1
        b.ne    L(one)
        b       L(row_done)

        // The same byte for the whole row.
L(fill):
        ld1r    {v0.16b}, [x_ptr]
        eor     v0.16b, v0.16b, flips.16b
        subs    left, left, #32
        b.lo    L(fill_rest)
L(fill_more):
        stp     q0, q0, [y_ptr], #32
        subs    left, left, #32
        b.hs    L(fill_more)
L(fill_rest):
        adds    left, left, #32
        b.eq    L(row_done)
L(fill_one):
        str     b0, [y_ptr], #1
        subs    left, left, #1
        b.ne    L(fill_one)

L(row_done):
        add     x_row, x_row, row_x
        add     y_row, y_row, row_y
        subs    rows, rows, #1
        b.ne    L(next_row)
        ldp     t0, t1, [args, #40]
        add     x, x, t0
        add     y, y, t1
        subs    planes, planes, #1
        b.ne    L(next_plane)
L(finished):
        ret
endfunction copy_planes
