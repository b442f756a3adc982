"""Writing nodes in the place of another: names, constants and attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pyint8dot.onnx.errors import ModelError

MICROSOFT = "com.microsoft"


class Writer:
    """A node, and the nodes that are written in its place.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    scope : Scope
        What is known around it.
    """

    def __init__(self, node: onnx.NodeProto, scope: Scope) -> None:
        self.node = node
        self.scope = scope
        self.nodes: list[onnx.NodeProto] = []
        self._attrs = {a.name: a for a in node.attribute}

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators in the model."""
        return self.scope.opset

    def has(self, index: int) -> bool:
        """Tell whether the node has an input at `index`."""
        return index < len(self.node.input) and self.node.input[index] != ""

    def input(self, index: int) -> str:
        """Return the name of an input, empty where it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def output(self, index: int) -> str:
        """Return the name of an output, empty where nobody wants it."""
        return self.node.output[index] if index < len(self.node.output) else ""

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or `default` where the node has none of that name."""
        if name not in self._attrs:
            return default
        value = helper.get_attribute_value(self._attrs[name])
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value

    def attrs(self, *names: str) -> dict[str, Any]:
        """Return those of some attributes that the node has."""
        return {name: self.attr(name) for name in names if name in self._attrs}

    def constant(self, value: np.ndarray | np.generic | list[int]) -> str:
        """Add a constant and return its name."""
        array = np.asarray(value, np.int64) if isinstance(value, list) else np.asarray(value)
        return self.add("Constant", value=numpy_helper.from_array(array))

    def value(self, index: int) -> np.ndarray | None:
        """Return the input at `index` where it is a constant."""
        tensor = self.scope.constants.get(self.input(index))
        return None if tensor is None else numpy_helper.to_array(tensor)

    def type(self, index: int) -> np.dtype[Any] | None:
        """Return the element type of an input where it is known before any inference."""
        element = self.scope.types.get(self.input(index), 0)
        return np.dtype(helper.tensor_dtype_to_np_dtype(element)) if element else None

    def add(self, op: str, *inputs: str, into: str | list[str] | None = None, domain: str = "", **attrs: Any) -> str:
        """Add a node and return the name of its first output, which is a new one unless `into` says which."""
        outputs = (
            [self.scope.fresh(f"{self.node.output[0]}/{op}")]
            if into is None
            else [into]
            if isinstance(into, str)
            else into
        )
        names = list(inputs)
        while names and not names[-1]:
            names.pop()
        self.nodes.append(helper.make_node(op, names, outputs, name=self.node.name, domain=domain, **attrs))
        return outputs[0]

    def on_axes(self, op: str, x: str, axes: list[int], into: str | None = None, **attrs: Any) -> str:
        """Add ReduceMean, ReduceSum, Squeeze or Unsqueeze, whose axes became an input at one version or another."""
        if self.opset < {"ReduceMean": 18}.get(op, 13):
            return self.add(op, x, into=into, axes=axes, **attrs)
        return self.add(op, x, self.constant(axes), into=into, **attrs)


# What writes nodes in the place of one; False where the node has to stay.
Rule: TypeAlias = "Callable[[Writer], bool | None]"


def rule(table: dict[str, Rule], *names: str) -> Callable[[Rule], Rule]:
    """Put a rule for some operators into a table."""

    def enter(made: Rule) -> Rule:
        table.update(dict.fromkeys(names, made))
        return made

    return enter


class Scope:
    """The names, constants and element types of a model, as far as they are known before any inference.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.opset = next((o.version for o in model.opset_import if not o.domain), 1)
        self.constants: dict[str, onnx.TensorProto] = {}
        self.types: dict[str, int] = {}
        self._names: set[str] = set()
        for graph in all_graphs(model.graph):
            self._enter(graph)

    def _enter(self, graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            self.constants[tensor.name] = tensor
        for value in (*graph.input, *graph.output, *graph.value_info):
            self.types[value.name] = value.type.tensor_type.elem_type
            self._names.add(value.name)
        for node in graph.node:
            self._names.update(node.output)
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                self.constants[node.output[0]] = node.attribute[0].t
        self.types.update({name: tensor.data_type for name, tensor in self.constants.items()})
        self._names.update(self.constants)

    def fresh(self, hint: str) -> str:
        """Return a name that no tensor has."""
        name, count = hint, 0
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._names.add(name)
        return name


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and, before it, all graphs inside it."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from all_graphs(inner)
    yield graph


def replace(graph: onnx.GraphProto, scope: Scope, rules: Mapping[str, Rule]) -> bool:
    """Apply rules to the nodes of com.microsoft in a graph, again to what they write; tell whether anything changed.

    Raises
    ------
    ModelError
        If a node lacks what its operator has to have.
    """
    if not any(n.domain == MICROSOFT and n.op_type in rules for n in graph.node):
        return False
    written: list[onnx.NodeProto] = []
    waiting = list(graph.node)[::-1]
    while waiting:
        node = waiting.pop()
        apply = rules.get(node.op_type) if node.domain == MICROSOFT else None
        writer = Writer(node, scope)
        try:
            stays = apply is None or apply(writer) is False
        except Exception as error:
            raise ModelError(f"node {node.name!r} ({node.op_type}): {type(error).__name__}: {error}") from error
        if stays:
            written.append(node)
        else:
            waiting.extend(writer.nodes[::-1])
    # The message empties nodes that it is given back.
    copies = [onnx.NodeProto() for _ in written]
    for copy, node in zip(copies, written, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)
    return True
