/*
 * Kernel:     spread
 * Computes:   calls a function of three arguments, for the checked call, which knows of one
 * Prototype:  int64_t pyint8dot_spread(const int64_t args[4])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    none
 * Arguments:  x0 = args: [0] the function; [1..3] its arguments
 * Clobbers:   x0-x2, x16, and what the function clobbers
 * Unused:     x3-x15, x17-x30, v0-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#include "asm.h"

/* The function returns to the caller of this one. */
function spread
        ldr     x16, [x0]
        ldp     x1, x2, [x0, #16]
        ldr     x0, [x0, #8]
        br      x16
endfunction spread
