/*
 * Kernel:     checked_call
 * Computes:   calls function(argument) with every register filled from a state, and writes back what it left in them
 * Prototype:  void pyint8dot_checked_call(void (*function)(const void *), const void *argument, struct state *state)
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = function, entered by blr from x16
 *             x1 = argument, handed over in x0
 *             x2 = state, laid out as the offsets below; STATE in checked.py is the same list
 * Clobbers:   x0-x17, v0-v7, v16-v31, flags
 * Unused:     x18 of Apple's platforms and of Windows, which own it
 * Stack:      20736: a frame of 176, 80 of canaries above the function's stack, 20480 watched below it
 * Over-read:  none
 * Bound:      one call at a time in a process: the state's address lies in a static word while the function runs
 */
#include "asm.h"

/* The checker has to look at the one register that no product file may name. */
#undef x18

#define function_in     x0
#define argument_in     x1
#define state           x2

/* Offsets into the state: 32 x registers (31 is the stack pointer) and 32 q registers, before and after. */
#define X_IN            0
#define X_OUT           256
#define V_IN            512
#define V_OUT           1024
#define SP_BEFORE       1536
#define FPCR_BEFORE     1544
#define FPCR_AFTER      1552
#define ABOVE_DAMAGED   1560    /* words of the caller's stack that were written */
#define STACK_USED      1568    /* bytes below the stack pointer, down to the lowest word that was written */

#define FRAME           176
#define ABOVE           80      /* bytes */
#define BELOW           20480   /* bytes */

/* Where the state is to be found when no register can be trusted. */
        .data
        .p2align 3
L(kept_state):
        .quad   0

function checked_call, framed
        // The checker itself keeps the contract that it checks.
        open_frame x29, x30, FRAME
        point_frame
        keep    x19, x20, 16
        keep    x21, x22, 32
        keep    x23, x24, 48
        keep    x25, x26, 64
        keep    x27, x28, 80
        keep    d8, d9, 96
        keep    d10, d11, 112
        keep    d12, d13, 128
        keep    d14, d15, 144
        frame_stands
#if !defined(__APPLE__) && !defined(_WIN32)
        str     x18, [sp, #160]
#endif
        address_of x9, kept_state
        str     state, [x9]

        // The word that x31 would hold, were it a register, is the canary of the stack.
        ldr     x10, [state, #X_IN + 31 * 8]

        // Canaries above: the function's caller owns them.
        sub     sp, sp, #ABOVE
        mov     x11, sp
        mov     x12, #ABOVE / 8
L(fill_above):
        str     x10, [x11], #8
        subs    x12, x12, #1
        b.ne    L(fill_above)

        // Canaries below: a function without a frame leaves them as they are.  From the top down, as stacks grow by pages.
        mov     x11, sp
        mov     x12, #BELOW / 8
L(fill_below):
        str     x10, [x11, #-8]!
        subs    x12, x12, #1
        b.ne    L(fill_below)

        mov     x10, sp
        str     x10, [state, #SP_BEFORE]
        mrs     x10, fpcr
        str     x10, [state, #FPCR_BEFORE]

        // Every vector register, all 128 bits.
        add     x9, state, #V_IN
        ld1     {v0.16b, v1.16b, v2.16b, v3.16b}, [x9], #64
        ld1     {v4.16b, v5.16b, v6.16b, v7.16b}, [x9], #64
        ld1     {v8.16b, v9.16b, v10.16b, v11.16b}, [x9], #64
        ld1     {v12.16b, v13.16b, v14.16b, v15.16b}, [x9], #64
        ld1     {v16.16b, v17.16b, v18.16b, v19.16b}, [x9], #64
        ld1     {v20.16b, v21.16b, v22.16b, v23.16b}, [x9], #64
        ld1     {v24.16b, v25.16b, v26.16b, v27.16b}, [x9], #64
        ld1     {v28.16b, v29.16b, v30.16b, v31.16b}, [x9]

        // Every general register but x0, x16 (the function), x29 (the frame) and x30; the
        // state's own register comes last.
        mov     x16, function_in
        mov     x0, argument_in
        ldr     x1, [state, #X_IN + 1 * 8]
        ldp     x3, x4, [state, #X_IN + 3 * 8]
        ldp     x5, x6, [state, #X_IN + 5 * 8]
        ldp     x7, x8, [state, #X_IN + 7 * 8]
        ldp     x9, x10, [state, #X_IN + 9 * 8]
        ldp     x11, x12, [state, #X_IN + 11 * 8]
        ldp     x13, x14, [state, #X_IN + 13 * 8]
        ldr     x15, [state, #X_IN + 15 * 8]
        ldr     x17, [state, #X_IN + 17 * 8]
#if !defined(__APPLE__) && !defined(_WIN32)
        ldr     x18, [state, #X_IN + 18 * 8]
#endif
        ldp     x19, x20, [state, #X_IN + 19 * 8]
        ldp     x21, x22, [state, #X_IN + 21 * 8]
        ldp     x23, x24, [state, #X_IN + 23 * 8]
        ldp     x25, x26, [state, #X_IN + 25 * 8]
        ldp     x27, x28, [state, #X_IN + 27 * 8]
        ldr     state, [state, #X_IN + 2 * 8]
        blr     x16

        // No register can be trusted now, the stack pointer least of all.  x16 is given up
        // for the state's address: its own value after the call is the one not reported.
        address_of x16, kept_state
        ldr     x16, [x16]
        stp     x0, x1, [x16, #X_OUT + 0 * 8]
        stp     x2, x3, [x16, #X_OUT + 2 * 8]
        stp     x4, x5, [x16, #X_OUT + 4 * 8]
        stp     x6, x7, [x16, #X_OUT + 6 * 8]
        stp     x8, x9, [x16, #X_OUT + 8 * 8]
        stp     x10, x11, [x16, #X_OUT + 10 * 8]
        stp     x12, x13, [x16, #X_OUT + 12 * 8]
        stp     x14, x15, [x16, #X_OUT + 14 * 8]
        str     x17, [x16, #X_OUT + 17 * 8]
#if !defined(__APPLE__) && !defined(_WIN32)
        str     x18, [x16, #X_OUT + 18 * 8]
#endif
        stp     x19, x20, [x16, #X_OUT + 19 * 8]
        stp     x21, x22, [x16, #X_OUT + 21 * 8]
        stp     x23, x24, [x16, #X_OUT + 23 * 8]
        stp     x25, x26, [x16, #X_OUT + 25 * 8]
        stp     x27, x28, [x16, #X_OUT + 27 * 8]
        stp     x29, x30, [x16, #X_OUT + 29 * 8]
        mov     x1, sp
        str     x1, [x16, #X_OUT + 31 * 8]
        mov     state, x16

        // The frame is where it was, whatever the function did to sp and x29.
        ldr     x10, [state, #SP_BEFORE]
        mov     sp, x10
        add     x29, x10, #ABOVE

        add     x9, state, #V_OUT
        st1     {v0.16b, v1.16b, v2.16b, v3.16b}, [x9], #64
        st1     {v4.16b, v5.16b, v6.16b, v7.16b}, [x9], #64
        st1     {v8.16b, v9.16b, v10.16b, v11.16b}, [x9], #64
        st1     {v12.16b, v13.16b, v14.16b, v15.16b}, [x9], #64
        st1     {v16.16b, v17.16b, v18.16b, v19.16b}, [x9], #64
        st1     {v20.16b, v21.16b, v22.16b, v23.16b}, [x9], #64
        st1     {v24.16b, v25.16b, v26.16b, v27.16b}, [x9], #64
        st1     {v28.16b, v29.16b, v30.16b, v31.16b}, [x9]
        mrs     x10, fpcr
        str     x10, [state, #FPCR_AFTER]
        ldr     x10, [state, #FPCR_BEFORE]
        msr     fpcr, x10

        // How many canaries above died.
        ldr     x10, [state, #X_IN + 31 * 8]
        mov     x13, #0
        mov     x11, sp
        mov     x12, #ABOVE / 8
L(look_above):
        ldr     x14, [x11], #8
        cmp     x14, x10
        cinc    x13, x13, ne
        subs    x12, x12, #1
        b.ne    L(look_above)
        str     x13, [state, #ABOVE_DAMAGED]

        // How far below its stack pointer the function wrote: the lowest dead canary says.
        sub     x11, sp, #BELOW
        mov     x12, #BELOW
L(look_below):
        ldr     x14, [x11], #8
        cmp     x14, x10
        b.ne    L(written_below)
        subs    x12, x12, #8
        b.ne    L(look_below)
L(written_below):
        str     x12, [state, #STACK_USED]

#if !defined(__APPLE__) && !defined(_WIN32)
        ldr     x18, [x29, #160]
#endif
        leave_frame
        unpoint_frame
        give_back d14, d15, 144
        give_back d12, d13, 128
        give_back d10, d11, 112
        give_back d8, d9, 96
        give_back x27, x28, 80
        give_back x25, x26, 64
        give_back x23, x24, 48
        give_back x21, x22, 32
        give_back x19, x20, 16
        close_frame x29, x30, FRAME
        ret
endfunction checked_call, framed
