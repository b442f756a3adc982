/*
 * Kernel:     lstm
 * Computes:   the steps of an LSTM in one direction: x += h . r, a chain of fused multiply-adds; then i, o and f = tanh(x) / 2 + 1/2 and
 *             g = tanh(x), where x is in turn what these begin with; c = f * c + i * g; y = h = o * tanh(c)
 * Prototype:  void pyint8dot_lstm(const int64_t args[14])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x         float *  a step after the other, each `batch` rows of 16 for every four units: four i, four o, four f, four g;
 *                           the product with h is added here
 *             [1] y         float *  likewise, rows of `units`: results
 *             [2] r         const float *  panels as product_f32 has them, `units` rows of 16 for every four units; or null where x is
 *                           complete
 *             [3] h         float *  batch rows of `units`: the state before, and after
 *             [4] c         float *  the same of the cell
 *             [5] lengths   const int32_t [batch], or null; a row leaves its state alone and has results of 0 from this time on
 *             [6] steps     >= 0
 *             [7] batch     >= 0
 *             [8] units     >= 0, a multiple of 4
 *             [9] step_x    bytes from a step to the one walked next, any sign
 *             [10] step_y   likewise
 *             [11] ld_x     bytes from a row of a step to the next
 *             [12] ld_y     likewise
 *             [13] time     of the first step, for lengths; where step_x is negative it runs down
 * Clobbers:   x1-x17, v0-v7, v16-v31, flags
 * Unused:     x18, x25-x30, v8-v15
 * Stack:      48, keeps x19-x24
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "chains.h"

#define args            x0
#define x_step          x21     /* the step at hand */
#define y_step          x22
#define steps           x23     /* left */
#define time            x24
#define now             w24

/* While gates are applied; a row's pointers go along it. */
#define groups          x1      /* of four units */
#define lengths         x2
#define step            x2
#define y_row           x3
#define x_row           x4
#define h_ptr           x5
#define c_ptr           x6
#define ld_row          x7
#define x_ptr           x11
#define y_ptr           x12
#define group           x13     /* left */
#define width           x14     /* bytes of a row of the state */
#define end             w15     /* of a row's steps */
#define down            x15     /* from a row of results to the next, or from a step's */

#define limit           v20     /* of the magnitude; v22-v26 are P of tanh from its highest coefficient down, v27-v30 Q below its leading 1 */
#define minus_limit     v21
#define half            v31

/* The constants of pyint8dot.floats: the limit, the same negative, P and Q. */
constants tanh_constants
        .word   0x40fddcb7, 0xc0fddcb7
        .word   0x3c92fb26, 0x41cce58e, 0x458211c3, 0x4818c252, 0x498df67f
        .word   0x43c713fe, 0x46edf903, 0x4904d4e8, 0x498df67f

        .text

/* One step of a polynomial in a register: times the square of the argument, plus a coefficient. */
.macro horner sum, square, coefficient
        fmul    v\sum\().4s, v\sum\().4s, v\square\().4s
        fadd    v\sum\().4s, v\sum\().4s, v\coefficient\().4s
.endm

/* Four values to their tanh, as pyint8dot.floats defines it, in place; two more registers are lost. */
.macro tanh x, square, sum
        fmin    v\x\().4s, v\x\().4s, limit.4s
        fmax    v\x\().4s, v\x\().4s, minus_limit.4s
        fmul    v\square\().4s, v\x\().4s, v\x\().4s
        fmul    v\sum\().4s, v\square\().4s, v22.4s
        fadd    v\sum\().4s, v\sum\().4s, v23.4s
        horner  \sum, \square, 24
        horner  \sum, \square, 25
        horner  \sum, \square, 26
        fmul    v\x\().4s, v\x\().4s, v\sum\().4s
        fadd    v\sum\().4s, v\square\().4s, v27.4s
        horner  \sum, \square, 28
        horner  \sum, \square, 29
        horner  \sum, \square, 30
        fdiv    v\x\().4s, v\x\().4s, v\sum\().4s
.endm

/* The logistic function of twice the value that this is the tanh of. */
.macro gate x
        fmul    v\x\().4s, v\x\().4s, half.4s
        fadd    v\x\().4s, v\x\().4s, half.4s
.endm

function lstm, framed
        open_frame x19, x20, 48
        keep    x21, x22, 16
        keep    x23, x24, 32
        frame_stands
        ldp     x_step, y_step, [args]
        ldp     steps, rows, [args, #48]
        ldr     depth, [args, #64]
        ldr     time, [args, #104]
        cbz     steps, L(finished)
        cbz     rows, L(finished)
        cbz     depth, L(finished)

        // What the state adds to this step's sums.
L(next_step):
        ldp     b_all, a_at, [args, #16]
        cbz     b_all, L(complete)
        ldp     rows, depth, [args, #56]
        mov     y_at, x_step
        mov     start_at, x_step
        ldr     ld_y, [args, #88]
        mov     ld_start, ld_y
        lsl     ld_a, depth, #2
        lsr     panels, depth, #2
        chains  fours

        // The coefficients take the place of sums.
L(complete):
        address_of x_ptr, tanh_constants
        ld2r    {v20.4s, v21.4s}, [x_ptr], #8
        ld4r    {v22.4s, v23.4s, v24.4s, v25.4s}, [x_ptr], #16
        ld4r    {v26.4s, v27.4s, v28.4s, v29.4s}, [x_ptr], #16
        ld1r    {v30.4s}, [x_ptr]
        fmov    half.4s, #0.5
        ldp     h_ptr, c_ptr, [args, #24]
        ldp     rows, width, [args, #56]
        ldr     lengths, [args, #40]
        lsr     groups, width, #2
        lsl     width, width, #2
        mov     x_row, x_step
        mov     y_row, y_step

L(next_state):
        mov     x_ptr, x_row
        mov     y_ptr, y_row
        mov     group, groups
        cbz     lengths, L(next_group)
        ldr     end, [lengths], #4
        cmp     now, end
        b.ge    L(outside)

        // Four units: their gates, their cells, their results.
L(next_group):
        ld1     {v0.4s, v1.4s, v2.4s, v3.4s}, [x_ptr], #64
        ldr     q16, [c_ptr]
        tanh    0, 4, 5
        tanh    2, 6, 7
        tanh    3, 17, 18
        tanh    1, 4, 5
        gate    0
        gate    2
        gate    1
        fmul    v16.4s, v2.4s, v16.4s
        fmul    v0.4s, v0.4s, v3.4s
        fadd    v16.4s, v16.4s, v0.4s
        str     q16, [c_ptr], #16
        tanh    16, 6, 7
        fmul    v1.4s, v1.4s, v16.4s
        str     q1, [h_ptr], #16
        str     q1, [y_ptr], #16
        subs    group, group, #1
        b.ne    L(next_group)
        b       L(state_done)

        // A row that has ended.
L(outside):
        movi    v0.4s, #0
        add     h_ptr, h_ptr, width
        add     c_ptr, c_ptr, width
L(next_zeros):
        str     q0, [y_ptr], #16
        subs    group, group, #1
        b.ne    L(next_zeros)

L(state_done):
        ldp     ld_row, down, [args, #88]
        add     x_row, x_row, ld_row
        add     y_row, y_row, down
        subs    rows, rows, #1
        b.ne    L(next_state)

        // Time goes where the steps go.
        ldp     step, down, [args, #72]
        add     x_step, x_step, step
        add     y_step, y_step, down
        asr     step, step, #63
        orr     step, step, #1
        add     time, time, step
        subs    steps, steps, #1
        b.ne    L(next_step)

L(finished):
        leave_frame
        give_back x23, x24, 32
        give_back x21, x22, 16
        close_frame x19, x20, 48
        ret
endfunction lstm, framed
