"""Exact int8 matrix multiplication for AArch64, in assembly, for numpy."""

from pyint8dot import fuse
from pyint8dot.conv import PackedWeights, conv_integer, pack_conv, qlinear_conv
from pyint8dot.engine.dispatch import kernel_info, use_kernel
from pyint8dot.engine.packing import PackedFormat, PackedI8K4, PackedMatrix, pack
from pyint8dot.engine.threads import get_num_threads, num_threads, set_num_threads
from pyint8dot.errors import Int8DotError, KernelError, LibraryError
from pyint8dot.linear import linear
from pyint8dot.matmul import matmul
from pyint8dot.mmm import mmm
from pyint8dot.qlinear import matmul_integer, qlinear_matmul
from pyint8dot.quantize import dequantize_linear, dynamic_quantize_linear, quantize_linear, quantize_rows
from pyint8dot.version import __version__ as __version__

__all__ = [
    "Int8DotError",
    "KernelError",
    "LibraryError",
    "PackedFormat",
    "PackedI8K4",
    "PackedMatrix",
    "PackedWeights",
    "conv_integer",
    "dequantize_linear",
    "dynamic_quantize_linear",
    "fuse",
    "get_num_threads",
    "kernel_info",
    "linear",
    "matmul",
    "matmul_integer",
    "mmm",
    "num_threads",
    "pack",
    "pack_conv",
    "qlinear_conv",
    "qlinear_matmul",
    "quantize_linear",
    "quantize_rows",
    "set_num_threads",
    "use_kernel",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
