/*
 * Kernel:     attention
 * Computes:   y[i] = sum over j of p[i][j] * v[j] / sum of p[i], where p[i][j] = 2^(s[i][j] - max s[i]) as floats.py defines it
 *             and s[i][j] = (scale * q[i]) . k[j] + mask[i][j]; sums in the order of their terms, products fused into them
 * Prototype:  void pyint8dot_attention(const int64_t args[8])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args:
 *             [0] q         const float *  heads of m rows of d
 *             [1] k         const float *  heads of n rows of d
 *             [2] v         const float *  heads of n rows of dv
 *             [3] y         float *        heads of m rows of dv
 *             [4] mask      const float *  heads of m rows of n, or null
 *             [5] scale     const float *
 *             [6] geometry  const int64_t [15]:
 *                           [0]       heads, >= 0
 *                           [1..2]    m, >= 0, and n, > 0
 *                           [3..4]    d and dv, >= 0
 *                           [5..9]    bytes from a row to the next, of q, k, v, y and mask in turn, any sign; of mask often 0
 *                           [10..14]  bytes from a head to the next, likewise
 *             [7] scratch   working memory, 32 (d + n rounded up to 8) bytes
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags
 * Unused:     x18, x29-x30
 * Stack:      144, keeps x19-x28, d8-d15
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"
#include "exp2.h"
#include "attention.h"

/* Words of the geometry. */
#define QUERIES         8
#define KEYS            16
#define DEPTH           24
#define WIDTH           32
#define Q_ROW           40
#define K_ROW           48
#define V_ROW           56
#define Y_ROW           64
#define MASK_ROW        72
#define Q_HEAD          80      /* and that of k */
#define V_HEAD          96      /* and that of y */
#define MASK_HEAD       112

#define args            x0
#define geometry        x0      /* once the arguments are read */
/* x1-x8 are pointers to eight rows, of q, of k or of mask; x13 is `stride` and x14 `t0`. */
#define term_ptr        x9      /* along the packed queries and along the scores */
#define count           x10
#define left            x11     /* keys or columns left */
#define k_ptr           x12
#define y_ptr           x12
#define v_ptr           x1
#define v_column        x2
#define y_column        x3
#define y_stride        x4
#define scale           w15
#define scores          x16     /* of eight queries, key by key */
#define packed          x17     /* eight queries, element by element */
#define heads           x19
#define q_head          x20
#define k_head          x21
#define v_head          x22
#define y_head          x23
#define mask_head       x24
#define rows            x25     /* queries of this head that are left */
#define q_block         x26
#define y_block         x27
#define mask_block      x28

#define greatest_low    v16     /* of each of eight queries */
#define greatest_high   v17
#define sum_low         v20
#define sum_high        v21
#define inverse_low     v8
#define inverse_high    v9

define_exp2_constants

/* Eight columns of one query, in the order of the queries: divided by the sum and stored; done after the last one. */
.macro finish query, low, high, inverse, lane
        fmul    v\low\().4s, v\low\().4s, v\inverse\().s[\lane]
        fmul    v\high\().4s, v\high\().4s, v\inverse\().s[\lane]
        stp     q\low, q\high, [y_ptr]
    .if \query < 8
        add     y_ptr, y_ptr, y_stride
        cmp     rows, #\query
        b.ls    L(stored)
    .endif
.endm

/* The same of one column. */
.macro finish_one query, register, lane
        st1     {v\register\().s}[\lane], [y_ptr], y_stride
    .if \query < 8
        cmp     rows, #\query
        b.ls    L(stored_one)
    .endif
.endm

function attention, framed
        open_frame x19, x20, 144
        keep    x21, x22, 16
        keep    x23, x24, 32
        keep    x25, x26, 48
        keep    x27, x28, 64
        keep    d8, d9, 80
        keep    d10, d11, 96
        keep    d12, d13, 112
        keep    d14, d15, 128
        frame_stands
        ldp     q_head, k_head, [args]
        ldp     v_head, y_head, [args, #16]
        ldp     mask_head, t0, [args, #32]
        ldr     scale, [t0]
        ldr     packed, [args, #56]
        ldr     geometry, [args, #48]
        ldr     heads, [geometry]
        cbz     heads, L(finished)
        ldr     t0, [geometry, #DEPTH]
        add     scores, packed, t0, lsl #5

L(next_head):
        ldr     rows, [geometry, #QUERIES]
        cbz     rows, L(finished)
        mov     q_block, q_head
        mov     y_block, y_head
        mov     mask_block, mask_head

        // Eight queries side by side, times the scale; the last one again where there are fewer.
L(next_block):
        ldr     stride, [geometry, #Q_ROW]
        eight_rows q_block, rows, queries
        dup     v2.4s, scale
        mov     term_ptr, packed
        ldr     count, [geometry, #DEPTH]
        cbz     count, L(queries_packed)
L(next_element):
        eight_elements
        fmul    v0.4s, v0.4s, v2.4s
        fmul    v1.4s, v1.4s, v2.4s
        stp     q0, q1, [term_ptr], #32
        subs    count, count, #1
        b.ne    L(next_element)

        // Their products with eight keys at a time; the last one again where there are fewer.
L(queries_packed):
        ldr     stride, [geometry, #K_ROW]
        ldr     left, [geometry, #KEYS]
        mov     k_ptr, k_head
L(next_keys):
        eight_rows k_ptr, left, keys
        clear_tile
        mov     term_ptr, packed
        ldr     count, [geometry, #DEPTH]
        subs    count, count, #4
        b.lo    L(depth_end)
L(depth_four):
        load_keys q, 16
        ld1     {v8.4s, v9.4s, v10.4s, v11.4s}, [term_ptr], #64
        ld1     {v12.4s, v13.4s, v14.4s, v15.4s}, [term_ptr], #64
        score   0, 8, 9
        score   1, 10, 11
        score   2, 12, 13
        score   3, 14, 15
        subs    count, count, #4
        b.hs    L(depth_four)
L(depth_end):
        adds    count, count, #4
        b.eq    L(keys_done)
L(depth_one):
        load_keys s, 4
        ldp     q8, q9, [term_ptr], #32
        score   0, 8, 9
        subs    count, count, #1
        b.ne    L(depth_one)

        // They go behind the scores of the keys before.
L(keys_done):
        ldr     count, [geometry, #KEYS]
        sub     count, count, left
        add     t0, scores, count, lsl #5
        stp     q16, q17, [t0]
        stp     q18, q19, [t0, #32]
        stp     q20, q21, [t0, #64]
        stp     q22, q23, [t0, #96]
        stp     q24, q25, [t0, #128]
        stp     q26, q27, [t0, #160]
        stp     q28, q29, [t0, #192]
        stp     q30, q31, [t0, #224]
        add     k_ptr, k_ptr, stride, lsl #3
        subs    left, left, #8
        b.hi    L(next_keys)

        // The mask: one number a key, or one a key and query.
        ldr     left, [geometry, #KEYS]
        mov     term_ptr, scores
        cbz     mask_head, L(masked)
        ldr     stride, [geometry, #MASK_ROW]
        eight_rows mask_block, rows, masks
        cbz     stride, L(mask_shared)
L(mask_own):
        eight_elements
        ldp     q2, q3, [term_ptr]
        fadd    v2.4s, v2.4s, v0.4s
        fadd    v3.4s, v3.4s, v1.4s
        stp     q2, q3, [term_ptr], #32
        subs    left, left, #1
        b.ne    L(mask_own)
        b       L(masked)
L(mask_shared):
        ld1r    {v0.4s}, [x1], #4
        ldp     q2, q3, [term_ptr]
        fadd    v2.4s, v2.4s, v0.4s
        fadd    v3.4s, v3.4s, v0.4s
        stp     q2, q3, [term_ptr], #32
        subs    left, left, #1
        b.ne    L(mask_shared)

        // The greatest score of each query; a NaN anywhere wins.
L(masked):
        minus_infinity greatest_low
        mov     greatest_high.16b, greatest_low.16b
        mov     term_ptr, scores
        ldr     left, [geometry, #KEYS]
        subs    left, left, #4
        b.lo    L(greatest_end)
L(greatest_four):
        ld1     {v0.4s, v1.4s, v2.4s, v3.4s}, [term_ptr], #64
        ld1     {v4.4s, v5.4s, v6.4s, v7.4s}, [term_ptr], #64
        fmax    v0.4s, v0.4s, v2.4s
        fmax    v1.4s, v1.4s, v3.4s
        fmax    v4.4s, v4.4s, v6.4s
        fmax    v5.4s, v5.4s, v7.4s
        fmax    greatest_low.4s, greatest_low.4s, v0.4s
        fmax    greatest_high.4s, greatest_high.4s, v1.4s
        fmax    greatest_low.4s, greatest_low.4s, v4.4s
        fmax    greatest_high.4s, greatest_high.4s, v5.4s
        subs    left, left, #4
        b.hs    L(greatest_four)
L(greatest_end):
        adds    left, left, #4
        b.eq    L(powers)
L(greatest_one):
        ldp     q0, q1, [term_ptr], #32
        fmax    greatest_low.4s, greatest_low.4s, v0.4s
        fmax    greatest_high.4s, greatest_high.4s, v1.4s
        subs    left, left, #1
        b.ne    L(greatest_one)

        // Scores to powers of two, and one over their sum.
L(powers):
        load_exp2_constants t0
        movi    sum_low.4s, #0
        movi    sum_high.4s, #0
        mov     term_ptr, scores
        ldr     left, [geometry, #KEYS]
L(next_power):
        ldp     q0, q1, [term_ptr]
        fsub    v0.4s, v0.4s, greatest_low.4s
        fsub    v1.4s, v1.4s, greatest_high.4s
        power
        fadd    sum_low.4s, sum_low.4s, v4.4s
        fadd    sum_high.4s, sum_high.4s, v5.4s
        stp     q4, q5, [term_ptr], #32
        subs    left, left, #1
        b.ne    L(next_power)
        fmov    v0.4s, #1.0
        fdiv    inverse_low.4s, v0.4s, sum_low.4s
        fdiv    inverse_high.4s, v0.4s, sum_high.4s

        // Products with the values, eight columns at a time.
        ldr     stride, [geometry, #V_ROW]
        ldr     y_stride, [geometry, #Y_ROW]
        ldr     left, [geometry, #WIDTH]
        mov     v_column, v_head
        mov     y_column, y_block
        subs    left, left, #8
        b.lo    L(columns_end)
L(next_columns):
        clear_tile
        mov     v_ptr, v_column
        mov     term_ptr, scores
        ldr     count, [geometry, #KEYS]
        subs    count, count, #4
        b.lo    L(values_end)
L(values_four):
        ld1     {v0.4s, v1.4s, v2.4s, v3.4s}, [term_ptr], #64
        ld1     {v4.4s, v5.4s}, [v_ptr], stride
        ld1     {v6.4s, v7.4s}, [v_ptr], stride
        weigh   4, 5, 0, 1
        weigh   6, 7, 2, 3
        ld1     {v0.4s, v1.4s, v2.4s, v3.4s}, [term_ptr], #64
        ld1     {v4.4s, v5.4s}, [v_ptr], stride
        ld1     {v6.4s, v7.4s}, [v_ptr], stride
        weigh   4, 5, 0, 1
        weigh   6, 7, 2, 3
        subs    count, count, #4
        b.hs    L(values_four)
L(values_end):
        adds    count, count, #4
        b.eq    L(values_done)
L(values_one):
        ldp     q0, q1, [term_ptr], #32
        ld1     {v4.4s, v5.4s}, [v_ptr], stride
        weigh   4, 5, 0, 1
        subs    count, count, #1
        b.ne    L(values_one)
L(values_done):
        mov     y_ptr, y_column
        finish  1, 16, 17, 8, 0
        finish  2, 18, 19, 8, 1
        finish  3, 20, 21, 8, 2
        finish  4, 22, 23, 8, 3
        finish  5, 24, 25, 9, 0
        finish  6, 26, 27, 9, 1
        finish  7, 28, 29, 9, 2
        finish  8, 30, 31, 9, 3
L(stored):
        add     v_column, v_column, #32
        add     y_column, y_column, #32
        subs    left, left, #8
        b.hs    L(next_columns)

        // The last columns, one at a time.
L(columns_end):
        adds    left, left, #8
        b.eq    L(block_done)
L(next_column):
        clear   16, 17
        mov     v_ptr, v_column
        mov     term_ptr, scores
        ldr     count, [geometry, #KEYS]
L(value_one):
        ldp     q0, q1, [term_ptr], #32
        ld1r    {v4.4s}, [v_ptr], stride
        fmla    v16.4s, v0.4s, v4.4s
        fmla    v17.4s, v1.4s, v4.4s
        subs    count, count, #1
        b.ne    L(value_one)
        fmul    v16.4s, v16.4s, inverse_low.4s
        fmul    v17.4s, v17.4s, inverse_high.4s
        mov     y_ptr, y_column
        finish_one 1, 16, 0
        finish_one 2, 16, 1
        finish_one 3, 16, 2
        finish_one 4, 16, 3
        finish_one 5, 17, 0
        finish_one 6, 17, 1
        finish_one 7, 17, 2
        finish_one 8, 17, 3
L(stored_one):
        add     v_column, v_column, #4
        add     y_column, y_column, #4
        subs    left, left, #1
        b.ne    L(next_column)

L(block_done):
        ldr     t0, [geometry, #Q_ROW]
        add     q_block, q_block, t0, lsl #3
        add     y_block, y_block, y_stride, lsl #3
        ldr     t0, [geometry, #MASK_ROW]
        add     mask_block, mask_block, t0, lsl #3
        subs    rows, rows, #8
        b.hi    L(next_block)

        ldp     t0, stride, [geometry, #Q_HEAD]
        add     q_head, q_head, t0
        add     k_head, k_head, stride
        ldp     t0, stride, [geometry, #V_HEAD]
        add     v_head, v_head, t0
        add     y_head, y_head, stride
        cbz     mask_head, L(head_done)
        ldr     t0, [geometry, #MASK_HEAD]
        add     mask_head, mask_head, t0
L(head_done):
        subs    heads, heads, #1
        b.ne    L(next_head)

L(finished):
        leave_frame
        give_back d14, d15, 128
        give_back d12, d13, 112
        give_back d10, d11, 96
        give_back d8, d9, 80
        give_back x27, x28, 64
        give_back x25, x26, 48
        give_back x23, x24, 32
        give_back x21, x22, 16
        close_frame x19, x20, 144
        ret
endfunction attention, framed
