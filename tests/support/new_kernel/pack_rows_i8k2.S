/*
 * Kernel:     pack_rows_i8k2
 * Computes:   RowsI8K2: element (k, j) of a panel of 6 at (k / 2) * 12 + 2j + k % 2, zeros up to a multiple of 2 k
 * Prototype:  void pyint8dot_pack_rows_i8k2(const int64_t args[8])
 * Requires:   Advanced SIMD (every AArch64)
 * Tile:       none
 * Packing:    RowsI8K2(6), K group 2
 * Arguments:  x0 = args:
 *             [0] source     const int8_t *   element (k, j) at k * stride_k + j * stride_mn bytes
 *             [1] packed     int8_t *         panels of 6, then by `split`; k rounded up to 2 bytes a row
 *             [2] k          depth, >= 0; at 0 nothing is written
 *             [3] mn         rows, >= 0
 *             [4] stride_k   bytes, any sign
 *             [5] stride_mn  bytes, any sign
 *             [6] split      1: the last mn % 6 in panels of 4, 2, 1; 0: in a panel of 6 filled up with zeros
 *             [7] flip       0x80808080 packs uint8 moved to int8, 0 packs int8 as it is; its lower 32 bits count
 * Clobbers:   x0-x17, flags
 * Unused:     x18-x30, v0-v31
 * Stack:      0
 * Over-read:  none
 * Bound:      none
 */
#define PANEL 6
#include "asm.h"
#include "panels.h"

/* The left operand of smull_6x4. */
function pack_rows_i8k2
        pack_panels
endfunction pack_rows_i8k2
