/*
 * Kernel:     hard_sigmoid
 * Computes:   y[i] = min(max(x[i] * alpha + beta, 0), 1), times x[i] where that is asked for; NaN stays NaN
 * Prototype:  void pyint8dot_hard_sigmoid(const int64_t args[5])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] x        const float *
 *             [1] y        float *  may be x
 *             [2] n        >= 0
 *             [3] line     const float [2]: alpha, beta
 *             [4] times    1: times x; 0: not
 * Clobbers:   x1-x5, v0-v7, v16-v19, flags
 * Unused:     x6-x30, v8-v15, v20-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

#define args            x0
#define x_ptr           x1
#define y_ptr           x2
#define left            x3
#define times           x4
#define t0              x5

#define alphas          v16
#define betas           v17
#define zeros           v18
#define ones            v19

/* One operation on sixteen values. */
.macro sixteen operation, other
        \operation v0.4s, v0.4s, \other\().4s
        \operation v1.4s, v1.4s, \other\().4s
        \operation v2.4s, v2.4s, \other\().4s
        \operation v3.4s, v3.4s, \other\().4s
.endm

function hard_sigmoid
        ldp     x_ptr, y_ptr, [args]
        ldp     left, t0, [args, #16]
        ldr     times, [args, #32]
        ld2r    {alphas.4s, betas.4s}, [t0]
        movi    zeros.4s, #0
        fmov    ones.4s, #1.0

        // Sixteen a turn, then one by one.
        subs    left, left, #16
        b.lo    L(sixteen_end)
L(sixteen):
        ldp     q4, q5, [x_ptr], #32
        ldp     q6, q7, [x_ptr], #32
        fmul    v0.4s, v4.4s, alphas.4s
        fmul    v1.4s, v5.4s, alphas.4s
        fmul    v2.4s, v6.4s, alphas.4s
        fmul    v3.4s, v7.4s, alphas.4s
        sixteen fadd, betas
        sixteen fmax, zeros
        sixteen fmin, ones
        cbz     times, L(store)
        fmul    v0.4s, v0.4s, v4.4s
        fmul    v1.4s, v1.4s, v5.4s
        fmul    v2.4s, v2.4s, v6.4s
        fmul    v3.4s, v3.4s, v7.4s
L(store):
        stp     q0, q1, [y_ptr], #32
        stp     q2, q3, [y_ptr], #32
        subs    left, left, #16
        b.hs    L(sixteen)
L(sixteen_end):
        adds    left, left, #16
        b.eq    L(finished)
L(one):
        ldr     s4, [x_ptr], #4
        fmul    v0.4s, v4.4s, alphas.4s
        fadd    v0.4s, v0.4s, betas.4s
        fmax    v0.4s, v0.4s, zeros.4s
        fmin    v0.4s, v0.4s, ones.4s
        cbz     times, L(store_one)
        fmul    v0.4s, v0.4s, v4.4s
L(store_one):
        str     s0, [y_ptr], #4
        subs    left, left, #1
        b.ne    L(one)
L(finished):
        ret
endfunction hard_sigmoid
