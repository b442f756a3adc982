"""From nodes to functions: the table of operators, and what an operator may ask about the place it stands at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pyint8dot.engine import dispatch, library
from pyint8dot.onnx.graph import Graph, Node

if TYPE_CHECKING:
    from pyint8dot.onnx.program import Program

# What runs: arrays in (None for an input left out), one array out, or a tuple where a node has several outputs.
Function: TypeAlias = "Callable[..., Any]"
# What makes it from a node; None says "not this case": the node then goes to onnx's reference implementation.
Lower: TypeAlias = "Callable[[Site], Function | None]"

# Element types that operators ask about.
INT8 = (np.dtype(np.int8), np.dtype(np.uint8))
FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))

OPERATORS: dict[tuple[str, str], Lower] = {}

# What a result may share memory with is known of every operator in one of four ways: the operator is on one of the three
# lists below, or its results are looked at after every call and copied where they share. Only memory that is a node's own
# is ever written over.

# The result may be a view of the first input.
VIEWS = {("", op) for op in "Reshape Transpose Squeeze Unsqueeze Flatten Identity Slice Split Cast Dropout".split()}
# Sequences and optional values: what goes in comes out, in no order that is known beforehand.
CONTAINERS = {
    ("", op)
    for op in (
        "SequenceConstruct SequenceInsert SequenceErase SequenceAt SequenceEmpty SplitToSequence Optional "
        "OptionalGetElement"
    ).split()
}
# The functions of these make a new array at every call; tests hold them to it.
FRESH = {
    *(("", op) for op in (
        "Abs Add And AveragePool Ceil Clip Concat ConstantOfShape Conv ConvInteger Cos DequantizeLinear Div "
        "DynamicQuantizeLinear Equal Erf Exp Expand Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool Greater "
        "GreaterOrEqual LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max MaxPool Min "
        "Mul Neg Not Or Pad Pow QLinearConv QLinearMatMul QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceMax "
        "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Round Shape Sigmoid Sin Size Softmax Sqrt Sub Sum "
        "Tanh Tile Where Xor"
    ).split()),
    *(("pyint8dot", op) for op in "AddNormalization Attention ConvFloat Deviations DivideByRoot Gelu Lookup MatMulFloat MatMulTranspose QLinearMatMul".split()),
}  # fmt: skip


def operator(*names: str, domain: str = "") -> Callable[[Lower], Lower]:
    """Put a lowering into the table.

    Parameters
    ----------
    *names : str
        The operators it lowers.
    domain : str
        Their operator set.

    Returns
    -------
    callable
        A decorator.
    """

    def enter(lower: Lower) -> Lower:
        for name in names:
            OPERATORS[domain, name] = lower
        return lower

    return enter


def any_scale(value: Any) -> Any:
    """A scale of a graph, which forbids none, as products take it: they refuse 0 where it has no dimension."""
    return value if value.ndim or value else value.reshape(1)


@dataclass
class Site:
    """A node at its place in the graph.

    Attributes
    ----------
    node : Node
        The node.
    graph : Graph
        The graph around it.
    kernel : str or None
        Which kernel integer products run on.
    num_threads : int or None
        How many threads they use.
    max_bytes : int
        The most that one result may take.
    overwrite : frozenset of int
        Which inputs nobody reads afterwards, so that the result may be written over them.
    by : str
        What does the work, for the report.
    absorbed : set of int
        Inputs the function keeps in a form of its own, such as packed weights.
    compiler : callable or None
        Makes the program of an inner graph.
    programs : list of (str, Program)
        What it has made for this node, by the attribute of each, for the report.
    steady : bool
        Whether the function does the same for all arrays of the same types, shapes and strides: it looks at no values, unless
        through `pyint8dot.engine.tape.asked`, and all that it does with them on the way to a native result is native. `pyint8dot.onnx.executor` then leaves Python out.
    """

    node: Node
    graph: Graph
    kernel: str | None
    num_threads: int | None
    max_bytes: int
    overwrite: frozenset[int] = frozenset()
    by: str = "numpy"
    absorbed: set[int] = field(default_factory=set)
    compiler: Callable[[Graph], Program] | None = None
    programs: list[tuple[str, Program]] = field(default_factory=list)
    steady: bool = False

    def native(self, *, steady: bool = False) -> None:
        """Say that native code that is no product does the work, where there is a library, and whether it is steady."""
        self.steady = steady
        if library.status() is None:
            self.by = "native"

    @property
    def opset(self) -> int:
        """Version of the operator set the node belongs to."""
        return int(self.graph.opsets.get(self.node.domain, self.graph.opset))

    @property
    def what(self) -> str:
        """The node and its first output, for messages."""
        return f"{self.node}: output {next(iter(self.node.outputs), '')!r}"

    @property
    def kernel_name(self) -> str:
        """Name of the kernel that integer products run on."""
        return dispatch.select(self.kernel).name

    def absorb(self, index: int) -> None:
        """Say that the function keeps a constant input in a form of its own and need not be given it."""
        self.absorbed.add(index)

    def program(self, name: str) -> tuple[Graph, Program]:
        """Return the graph in an attribute, and its program."""
        if self.node.proto is None or self.compiler is None:
            raise ValueError(f"{self.node}: inner graphs cannot be compiled here")
        proto = next(a.g for a in self.node.proto.attribute if a.name == name)
        graph = Graph.inner(proto, self.graph)
        program = self.compiler(graph)
        self.programs.append((name, program))
        return graph, program

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or `default` where the node has none of that name."""
        return self.node.attrs.get(name, default)

    def has(self, index: int) -> bool:
        """Tell whether the node has an input at `index`."""
        return index < len(self.node.inputs) and self.node.inputs[index] != ""

    def const(self, index: int) -> np.ndarray | None:
        """Return the input at `index` where it is a constant."""
        return self.graph.constants.get(self.node.inputs[index]) if self.has(index) else None

    def single(self, index: int) -> Any:
        """Return the only element of a constant input as a numpy scalar, else None."""
        value = self.const(index)
        return None if value is None or value.size != 1 else value.reshape(())[()]

    def all_constant(self, *indices: int) -> bool:
        """Tell whether these inputs are constants or absent."""
        return all(not self.has(index) or self.const(index) is not None for index in indices)

    def dtype(self, index: int) -> np.dtype[Any] | None:
        """Return the element type of the input at `index` where it is known."""
        return self.graph.dtype(self.node.inputs[index]) if self.has(index) else None

    def ints(self, index: int) -> list[int] | None:
        """Return the input at `index` as a list of integers where it is a constant."""
        array = self.const(index)
        return None if array is None else [int(v) for v in array.reshape(-1)]
