"""The graph as the session works on it: nodes with decoded attributes, constants as arrays, and who reads what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from pyint8dot.onnx.errors import InputError, ModelError
from pyint8dot.onnx.structure import captured, describe, graphs_of
from pyint8dot.onnx.tensors import to_array

# The domain of the fused nodes that only the session makes.
FUSED = "pyint8dot"


@dataclass(eq=False)
class Node:
    """One operation.

    Attributes
    ----------
    op : str
        Operator.
    domain : str
        Operator set, `""` for ONNX's own and `FUSED` for the session's.
    name : str
        For messages.
    inputs, outputs : list of str
        Tensor names, `""` for one left out.
    attrs : dict
        Attributes as Python values, tensors as arrays.
    proto : onnx.NodeProto or None
        Where it comes from, none for a fused node.
    covers : list of str
        The operators it stands for, for the report.
    captures : list of str
        Names its inner graphs read from around them.
    """

    op: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    proto: onnx.NodeProto | None = None
    covers: list[str] = field(default_factory=list)
    captures: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """Operator set and operator."""
        return self.domain, self.op

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op})"


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor before the run, shaped as onnxruntime's `NodeArg`.

    Attributes
    ----------
    name : str
        Tensor name.
    type : str
        Such as `"tensor(float)"`.
    shape : list
        One entry a dimension: a number, the name of a symbolic one, or None.
    dtype : numpy.dtype or None
        The element type, none where numpy has none of its own.
    ranked : bool
        Whether the number of dimensions is known.
    """

    name: str
    type: str
    shape: list[int | str | None]
    dtype: np.dtype[Any] | None = None
    ranked: bool = True


class Graph:
    """Nodes in running order, with constants, inputs and outputs.

    Parameters
    ----------
    model : onnx.ModelProto
        A model that `read_model` has passed.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
        self._read(model.graph)

    @classmethod
    def inner(cls, proto: onnx.GraphProto, around: Graph) -> Graph:
        """Return the graph of a branch or body.

        What it reads from the graph around it becomes a constant where it is one there, and an input behind its own inputs
        where it is not.

        Parameters
        ----------
        proto : onnx.GraphProto
            The inner graph.
        around : Graph
            The graph it stands in.

        Returns
        -------
        Graph
        """
        graph = cls.__new__(cls)
        graph.opsets = around.opsets
        graph._read(proto)  # noqa: SLF001 - of this class
        for name in captured(proto):
            if name in around.constants:
                graph.constants[name] = around.constants[name]
                continue
            info = around.types.get(name) or TensorInfo(name, "unknown", [], None, ranked=False)
            graph.inputs.append(info)
            graph.types[name] = info
            if name in around.protos:
                graph.protos[name] = around.protos[name]
        return graph

    def _read(self, graph: onnx.GraphProto) -> None:
        self.constants: dict[str, np.ndarray] = {t.name: _constant(t) for t in graph.initializer}
        # An initialiser that is also listed as an input is a default value: a constant unless a feed names it.
        self.inputs = [tensor_info(v) for v in graph.input if v.name not in self.constants]
        self.outputs = [tensor_info(v) for v in graph.output]
        self.protos = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}
        self.types = {name: tensor_info(value) for name, value in self.protos.items()}
        self.nodes = [_node(proto) for proto in graph.node]

    @property
    def opset(self) -> int:
        """Version of ONNX's own operator set."""
        return int(self.opsets.get("", 1))

    def makers(self) -> dict[str, Node]:
        """Return the node that makes each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def readers(self) -> dict[str, list[Node]]:
        """Return the nodes that read each tensor, a graph output counting as none."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in (*node.inputs, *node.captures):
                if name:
                    found.setdefault(name, []).append(node)
        return found

    def dtype(self, name: str) -> np.dtype[Any] | None:
        """Return the element type of a tensor where it is known."""
        if name in self.constants:
            return self.constants[name].dtype
        info = self.types.get(name)
        return info.dtype if info else None

    def rank(self, name: str) -> int | None:
        """Return the number of dimensions of a tensor where it is known."""
        if name in self.constants:
            return self.constants[name].ndim
        info = self.types.get(name)
        return len(info.shape) if info and info.ranked else None

    def drop_unused(self) -> None:
        """Remove nodes, single outputs and constants that nobody reads."""
        wanted = {o.name for o in self.outputs}
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if any(name in wanted for name in node.outputs):
                kept.append(node)
                node.outputs = [name if name in wanted else "" for name in node.outputs]
                while not node.outputs[-1]:
                    node.outputs.pop()
                wanted.update(node.inputs)
                wanted.update(node.captures)
        self.nodes = kept[::-1]
        self.constants = {name: a for name, a in self.constants.items() if name in wanted}


def _constant(tensor: onnx.TensorProto) -> np.ndarray:
    try:
        return to_array(tensor)
    except Exception as error:
        raise ModelError(f"initialiser {tensor.name!r}: {type(error).__name__}: {error}") from error


def _node(proto: onnx.NodeProto) -> Node:
    inner = [name for graph in graphs_of(proto) for name in captured(graph)]
    return Node(
        op=proto.op_type,
        domain="" if proto.domain == "ai.onnx" else proto.domain,
        name=proto.name or next((o for o in proto.output if o), "?"),
        inputs=list(proto.input),
        outputs=list(proto.output),
        attrs={a.name: _attribute(a, proto) for a in proto.attribute},
        proto=proto,
        covers=[proto.op_type],
        captures=list(dict.fromkeys(inner)),
    )


def _attribute(attribute: onnx.AttributeProto, node: onnx.NodeProto) -> Any:
    try:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            return to_array(value)
    except Exception as error:
        raise ModelError(f"{describe(node)}: attribute {attribute.name!r}: {error}") from error
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Iterable):
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
    return value


def tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    """Describe a tensor of the model.

    Parameters
    ----------
    value : onnx.ValueInfoProto
        Name and type.

    Returns
    -------
    TensorInfo
    """
    name, tensor = _type_text(value.type), value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type":
        inner = value.type.optional_type.elem_type.tensor_type
        return TensorInfo(value.name, name, _shape(inner), None, ranked=False)
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, ValueError, TypeError):
        dtype = None
    return TensorInfo(value.name, name, _shape(tensor), dtype, tensor.HasField("shape"))


def _shape(tensor: onnx.TypeProto.Tensor) -> list[int | str | None]:
    return [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim]


def type_name(element: int) -> str:
    """Return the name of an element type as it stands in the names of types.

    Parameters
    ----------
    element : int
        ONNX's number.

    Returns
    -------
    str

    Examples
    --------
    >>> type_name(1)
    'float'
    """
    return str(onnx.TensorProto.DataType.Name(element)).lower() if element else "unknown"


def element_of(dtype: np.dtype[Any]) -> int:
    """Return ONNX's number of an array's element type.

    Parameters
    ----------
    dtype : numpy.dtype
        Of any byte order; objects and text are ONNX's strings.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If ONNX has no such type.

    Examples
    --------
    >>> element_of(np.dtype(np.float32))
    1
    """
    if dtype.kind in "OUS":
        return int(onnx.TensorProto.STRING)
    try:
        return int(onnx.helper.np_dtype_to_tensor_dtype(dtype.newbyteorder("=")))
    except ValueError:
        raise InputError(f"{dtype} is not an element type") from None


def _type_text(kind: onnx.TypeProto) -> str:
    which = kind.WhichOneof("value")
    if which == "tensor_type":
        return f"tensor({type_name(kind.tensor_type.elem_type)})"
    if which == "sequence_type":
        return f"seq({_type_text(kind.sequence_type.elem_type)})"
    if which == "optional_type":
        return f"optional({_type_text(kind.optional_type.elem_type)})"
    if which == "map_type":
        return f"map({type_name(kind.map_type.key_type)},{_type_text(kind.map_type.value_type)})"
    return which or "unknown"


def scalar(constants: Mapping[str, np.ndarray], name: str) -> float | None:
    """Return the value of a constant with one element, else None.

    Parameters
    ----------
    constants : mapping
        The graph's constants.
    name : str
        Tensor name.

    Returns
    -------
    float or None
    """
    array = constants.get(name)
    if array is None or array.size != 1 or array.dtype.kind not in "fiu":
        return None
    return float(array.reshape(()))


def names_in(nodes: Sequence[Node]) -> Iterator[str]:
    """Yield the names of all tensors that some nodes read or make.

    Parameters
    ----------
    nodes : sequence of Node
        Any nodes.

    Yields
    ------
    str
    """
    for node in nodes:
        yield from (n for n in (*node.inputs, *node.outputs, *node.captures) if n)
