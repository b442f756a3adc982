/*
 * Kernel:     quantize_rows
 * Computes:   scale[i] = max |x[i][p]| / 127 and q[i][p] = round(x[i][p] * (127 / max |x[i][p]|)), ties to even
 * Prototype:  void pyint8dot_quantize_rows(const int64_t args[8])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x      const float *  m rows of k
 *             [1] q      int8_t *
 *             [2] ld_x   bytes from a row of x to the next
 *             [3] ld_q   bytes from a row of q to the next
 *             [4] m      rows, >= 0
 *             [5] k      columns, >= 0
 *             [6] scale  float [m]; not finite where the row is not, and q is then without meaning
 *             [7] status int64_t *, set to 1 if a row is not finite, else left alone
 * Clobbers:   x1-x11, v0-v3, v16-v20, flags
 * Unused:     x12-x30, v4-v15, v21-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x               x1
#define q               x2
#define ld_x            x3
#define ld_q            x4
#define rows            x5
#define depth           x6
#define scale           x7
#define x_ptr           x8
#define q_ptr           x9
#define left            x10
#define status          x11

#define full            s16     /* 127 */
#define infinity        s17
#define greatest        s18
#define inverse         s19
#define greatest_yet    s20     /* of all rows so far */

/* The greatest magnitude so far, lane by lane; NaN wins. */
.macro greater register
        fabs    v\register\().4s, v\register\().4s
        fmax    v18.4s, v18.4s, v\register\().4s
.endm

/* Four values to four 32-bit integers. */
.macro quantize register
        fmul    v\register\().4s, v\register\().4s, v19.s[0]
        fcvtns  v\register\().4s, v\register\().4s
.endm

function quantize_rows
        ldp     x, q, [args]
        ldp     ld_x, ld_q, [args, #16]
        ldp     rows, depth, [args, #32]
        ldp     scale, status, [args, #48]
        cbz     rows, L(finished)
        movi    v16.4s, #0x42, lsl #24
        orr     v16.4s, #0xfe, lsl #16          // 127.0
        movi    v17.4s, #0x7f, lsl #24
        orr     v17.4s, #0x80, lsl #16
        movi    v20.4s, #0

        // The greatest magnitude of the row; a NaN anywhere in it wins.
L(next_row):
        mov     x_ptr, x
        movi    v18.4s, #0
        subs    left, depth, #16
        b.lo    L(greatest_end)
L(greatest_sixteen):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        greater 0
        greater 1
        greater 2
        greater 3
        subs    left, left, #16
        b.hs    L(greatest_sixteen)
L(greatest_end):
        adds    left, left, #16
        b.eq    L(row_scale)
L(greatest_one):
        ldr     s0, [x_ptr], #4
        greater 0
        subs    left, left, #1
        b.ne    L(greatest_one)

        // A row too small for 127 / greatest to be a float becomes zeros.
L(row_scale):
        fmaxv   greatest, v18.4s
        fmax    greatest_yet, greatest_yet, greatest
        fdiv    inverse, full, greatest
        fdiv    s0, greatest, full
        str     s0, [scale], #4
        fcmeq   s0, inverse, infinity
        bic     v19.8b, v19.8b, v0.8b

        mov     x_ptr, x
        mov     q_ptr, q
        subs    left, depth, #16
        b.lo    L(quantize_end)
L(quantize_sixteen):
        ldp     q0, q1, [x_ptr], #32
        ldp     q2, q3, [x_ptr], #32
        quantize 0
        quantize 1
        quantize 2
        quantize 3
        uzp1    v0.8h, v0.8h, v1.8h
        uzp1    v2.8h, v2.8h, v3.8h
        uzp1    v0.16b, v0.16b, v2.16b
        str     q0, [q_ptr], #16
        subs    left, left, #16
        b.hs    L(quantize_sixteen)
L(quantize_end):
        adds    left, left, #16
        b.eq    L(row_done)
L(quantize_one):
        ldr     s0, [x_ptr], #4
        quantize 0
        str     b0, [q_ptr], #1
        subs    left, left, #1
        b.ne    L(quantize_one)

L(row_done):
        add     x, x, ld_x
        add     q, q, ld_q
        subs    rows, rows, #1
        b.ne    L(next_row)

        // Neither infinity nor NaN is below infinity.
        fcmp    greatest_yet, infinity
        b.mi    L(finished)
        mov     left, #1
        str     left, [status]
L(finished):
        ret
endfunction quantize_rows
