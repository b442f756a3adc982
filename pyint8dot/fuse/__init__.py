"""The fused ops: what may be done to an int32 product before it is stored, with tract's names and tract's results."""

from pyint8dot.fuse.ops import (
    AddMatMul,
    AddRowColProducts,
    AddUnicast,
    BinOp,
    BinPerCol,
    BinPerRow,
    BinScalar,
    Clear,
    FusedOp,
    LeakyRelu,
    LoadTile,
    Store,
    apply,
    check,
    product,
    requantize_ops,
)
from pyint8dot.fuse.rounding import QScale, RoundingPolicy, RoundingShiftRight, Scaler, ShiftLeft

__all__ = [
    "AddMatMul", "AddRowColProducts", "AddUnicast", "BinOp", "BinPerCol", "BinPerRow", "BinScalar",
    "Clear", "FusedOp", "LeakyRelu", "LoadTile", "QScale", "RoundingPolicy", "RoundingShiftRight",
    "Scaler", "ShiftLeft", "Store", "apply", "check", "product", "requantize_ops",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
