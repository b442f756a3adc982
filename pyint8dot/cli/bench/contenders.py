"""What the bench measures: this package's kernels and, where they are installed, other libraries that make the same product.

Every contender gets the same operands and gives the same numbers, so that its result can be compared value by value:
they are chosen so that also the calls with scales are exact in float32.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import pyint8dot
from pyint8dot.engine import dispatch, kernels

__all__ = ["CALLS", "PEERS", "Contender", "Problem", "absence", "own"]

CALLS = ("matmul", "linear", "qlinear_matmul")
"""Functions of this package that can be measured; the right operand is packed before, everything else is in the call."""

Made = Callable[[], Any]
Shape = tuple[int, int, int]

# One unit of a float32 layer's weights: a power of two, so that float32 arithmetic does not round.
WEIGHT_SCALE = np.float32(2**-6)
# numpy has no fast integer product: beyond this many multiplications it would take most of the bench's time.
MOST_INT32_MACS = 20_000_000


class Problem:
    """Operands of one call at one shape, the same ones every time.

    Parameters
    ----------
    call : str
        One of `CALLS`.
    shape : tuple of int
        m, k and n: the product of an (m, k) and a (k, n) matrix.
    """

    def __init__(self, call: str, shape: Shape) -> None:
        self.call = call
        self.shape = shape
        m, k, n = shape
        rng = np.random.default_rng([m, k, n])
        lowest = -127 if call == "linear" else -128
        self.a: npt.NDArray[np.int8] = rng.integers(lowest, 128, (m, k), dtype=np.int8)
        self.b: npt.NDArray[np.int8] = rng.integers(-128, 128, (k, n), dtype=np.int8)
        if call == "linear":
            # A row whose largest value is 127 is quantised with scale 1: to itself.
            self.a[:, 0] = 127

    @property
    def operations(self) -> int:
        """A multiplication and an addition for each of m * k * n."""
        m, k, n = self.shape
        return 2 * m * k * n

    @functools.cached_property
    def expected(self) -> npt.NDArray[Any]:
        """The result, by the portable kernel."""
        return np.asarray(own(kernels.PORTABLE).make(self, 1)())

    @functools.cached_property
    def y_scale(self) -> np.float32:
        """Scale of an int8 result: a power of two with which nothing is cut off."""
        largest = int(np.abs(pyint8dot.matmul(self.a, self.b, kernel=kernels.PORTABLE).astype(np.int64)).max())
        scale: np.float32 = np.float32(math.ldexp(1, max(math.ceil(math.log2(max(largest, 1) / 127)), 0)))
        return scale


@dataclass(frozen=True)
class Contender:
    """One row of the bench.

    Attributes
    ----------
    name : str
        What the table calls it.
    threads : {"any", "one", "blas"}
        How many threads it uses: as many as it is told, always one, or what numpy's BLAS does.
    makers : mapping
        For each call it has, what prepares it: given the problem and a number of threads, it returns a function without arguments
        that makes the call. Preparing is not measured.
    needs : tuple of str
        Modules that must be installed.
    most_macs : int, optional
        It is left out of shapes of more multiplications.
    ours : bool
        Whether it is a kernel of this package.
    """

    name: str
    threads: Literal["any", "one", "blas"]
    makers: Mapping[str, Callable[[Problem, int], Made]]
    needs: tuple[str, ...] = ()
    most_macs: int | None = None
    ours: bool = False

    def make(self, problem: Problem, threads: int) -> Made:
        """Prepare the call of `problem`."""
        return self.makers[problem.call](problem, threads)


def absence(contender: Contender) -> str | None:
    """Say what a contender lacks on this machine, or None where it lacks nothing."""
    missing = [name for name in contender.needs if importlib.util.find_spec(name) is None]
    return f"not installed (pip install {' '.join(missing)})" if missing else None


def own(name: str) -> Contender:
    """Return the contender that is a kernel of this package.

    Parameters
    ----------
    name : str
        Name of a kernel that runs on this machine.
    """
    makers = {call: functools.partial(_own, name) for call in CALLS}
    return Contender(name, "any" if kernels.KERNELS[name].native else "blas", makers, ours=True)


def _own(name: str, problem: Problem, threads: int) -> Made:
    # The call that users write where it means the same: without arguments the package has a shorter way.
    default = dispatch.select().name == name and pyint8dot.get_num_threads() == threads
    extra: dict[str, Any] = {} if default else {"kernel": name, "num_threads": threads}
    packed = pyint8dot.pack(problem.b, kernel=name)
    if problem.call == "matmul":
        return lambda: pyint8dot.matmul(problem.a, packed, **extra)
    if problem.call == "linear":
        x = problem.a.astype(np.float32)
        return lambda: pyint8dot.linear(x, packed, w_scale=WEIGHT_SCALE, **extra)
    one, zero, y_scale = np.float32(1), np.int8(0), problem.y_scale
    return lambda: pyint8dot.qlinear_matmul(problem.a, one, zero, packed, one, zero, y_scale, zero, **extra)


def _numpy_float32(problem: Problem, _: int) -> Made:
    a, b = problem.a.astype(np.float32), problem.b.astype(np.float32)
    if problem.call == "matmul":
        return lambda: np.matmul(a, b)
    if problem.call == "linear":
        weights = b * WEIGHT_SCALE
        return lambda: np.matmul(a, weights)
    scale = 1 / problem.y_scale
    return lambda: np.clip(np.rint(np.matmul(a, b) * scale), -128, 127).astype(np.int8)


def _numpy_int32(problem: Problem, _: int) -> Made:
    a, b = problem.a.astype(np.int32), problem.b.astype(np.int32)
    return lambda: np.matmul(a, b)


def _numkong(problem: Problem, _: int) -> Made:
    numkong = import_module("numkong")
    packed = numkong.dots_pack(np.ascontiguousarray(problem.b.T), dtype="int8")
    return lambda: numkong.dots_packed(problem.a, packed)


def _onnxruntime(problem: Problem, threads: int) -> Made:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(_model(problem), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": problem.a})[0]


def _model(problem: Problem) -> bytes:
    """Return an ONNX model of one operator, the right operand a constant of it."""
    helper, tensors, numpy_helper = map(import_module, ("onnx.helper", "onnx", "onnx.numpy_helper"))
    m, k, n = problem.shape
    constants: dict[str, Any] = {"b": problem.b}
    if problem.call == "matmul":
        operator, inputs, result = "MatMulInteger", ["a", "b"], tensors.TensorProto.INT32
    else:
        operator, result = "QLinearMatMul", tensors.TensorProto.INT8
        inputs = ["a", "one", "zero", "b", "one", "zero", "y_scale", "zero"]
        constants |= {"one": np.float32(1), "zero": np.int8(0), "y_scale": problem.y_scale}
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["c"])],
        "product",
        [helper.make_tensor_value_info("a", tensors.TensorProto.INT8, (m, k))],
        [helper.make_tensor_value_info("c", result, (m, n))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    # Versions that every onnxruntime of the last years reads, whatever the installed onnx would write.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _torch(problem: Problem, threads: int) -> Made:
    torch = import_module("torch")
    torch.set_num_threads(threads)
    a, b = torch.from_numpy(problem.a), torch.from_numpy(problem.b)
    return lambda: torch._int_mm(a, b)  # noqa: SLF001 - torch has no other exact int8 product


PEERS: Mapping[str, Contender] = {
    peer.name: peer
    for peer in (
        Contender("numpy_float32", "blas", dict.fromkeys(CALLS, _numpy_float32)),
        Contender("numpy_int32", "one", {"matmul": _numpy_int32}, most_macs=MOST_INT32_MACS),
        Contender("numkong", "one", {"matmul": _numkong}, needs=("numkong",)),
        Contender(
            "onnxruntime",
            "any",
            {"matmul": _onnxruntime, "qlinear_matmul": _onnxruntime},
            needs=("onnx", "onnxruntime"),
        ),
        Contender("torch", "any", {"matmul": _torch}, needs=("torch",)),
    )
}
"""Others than this package, by name: numpy in two types, numkong's packed dots, MatMulInteger or QLinearMatMul, and ``torch._int_mm``."""
