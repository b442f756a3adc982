"""Reading a model: everything that can be wrong with a file is found here, before anything runs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.contrib.inference import infer, write_out
from pyint8dot.onnx.errors import ModelError

Source: TypeAlias = "str | os.PathLike[str] | bytes"

# Element types of a tensor that are stored as plain numpy bytes, with the bits of one element.
_BITS: dict[int, int] = {
    onnx.TensorProto.FLOAT: 32, onnx.TensorProto.UINT8: 8, onnx.TensorProto.INT8: 8,
    onnx.TensorProto.UINT16: 16, onnx.TensorProto.INT16: 16, onnx.TensorProto.INT32: 32,
    onnx.TensorProto.INT64: 64, onnx.TensorProto.BOOL: 8, onnx.TensorProto.FLOAT16: 16,
    onnx.TensorProto.DOUBLE: 64, onnx.TensorProto.UINT32: 32, onnx.TensorProto.UINT64: 64,
    onnx.TensorProto.COMPLEX64: 64, onnx.TensorProto.COMPLEX128: 128,
    onnx.TensorProto.BFLOAT16: 16, onnx.TensorProto.STRING: 0,
}  # fmt: skip
_NARROW = {"FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8,
           "FLOAT8E8M0": 8, "UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}  # fmt: skip
_BITS.update({getattr(onnx.TensorProto, k): v for k, v in _NARROW.items() if hasattr(onnx.TensorProto, k)})
# Functions that call each other twice and twice again grow without bound when they are written out.
_MAX_NODES = 1_000_000
_EQUATION = re.compile(r"[A-Za-z., ]*(->[A-Za-z. ]*)?")
# Where a tensor without raw bytes keeps its values, and how many entries one element takes.
_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def read_model(source: Source, max_bytes: int) -> onnx.ModelProto:
    """Read a model and make sure that it is one.

    Parameters
    ----------
    source : str, path or bytes
        File name, or the bytes of the file. External data is read only for a file, and only from its own folder.
    max_bytes : int
        The most that the model's tensors may take together.

    Returns
    -------
    onnx.ModelProto
        The model with its nodes in an order in which they can run, its external data inside, its types inferred.

    Raises
    ------
    ModelError
        If the file is not a model, or the model is broken, names what it does not have, or is too large.
    FileNotFoundError
        If there is no such file.
    """
    model, folder = _parse(source, max_bytes)
    _check_head(model)
    _check_tensors(model, folder, max_bytes)
    _check_graph(model.graph, frozenset(), "graph")
    model = _inline(model)
    write_out(model)
    return _check_types(model)


def _parse(source: Source, max_bytes: int) -> tuple[onnx.ModelProto, Path | None]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, folder, what = bytes(source), None, f"the model of {len(source)} bytes"
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"there is no model file {str(path)!r}")
        size = path.stat().st_size
        if size > max_bytes:
            raise ModelError(f"{path}: {size} bytes, more than max_bytes={max_bytes}")
        data, folder, what = path.read_bytes(), path.parent, str(path)
    else:
        raise TypeError(f"the model must be a file name or bytes, not {type(source).__name__}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{what}: not an ONNX model, or cut short ({error})") from None
    if not data or not model.HasField("graph"):
        raise ModelError(f"{what}: not an ONNX model: it holds no graph")
    return model, folder


def _check_head(model: onnx.ModelProto) -> None:
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise ModelError(
            f"ir_version {model.ir_version} is not known: onnx {onnx.__version__} reads 1 to {onnx.IR_VERSION}"
        )
    versions = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
    if not versions:
        raise ModelError("the model imports no operator set")
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= versions.get("", 1) <= newest:
        raise ModelError(f"opset {versions['']} is not known: onnx {onnx.__version__} knows 1 to {newest}")


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in the attributes of a node (the branches of If, the body of Loop).

    Parameters
    ----------
    node : onnx.NodeProto
        Any node.

    Yields
    ------
    onnx.GraphProto
    """
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for tensor in graph.initializer:
        yield f"initialiser {tensor.name!r}", tensor
    for sparse in graph.sparse_initializer:
        raise ModelError(f"initialiser {sparse.values.name!r}: sparse tensors are not supported")
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: list[onnx.NodeProto]) -> Iterator[tuple[str, onnx.TensorProto]]:
    for node in nodes:
        for attribute in node.attribute:
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                yield f"{describe(node)}: attribute {attribute.name!r}", tensor
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise ModelError(f"{describe(node)}: sparse tensors are not supported")
            if node.op_type == "Einsum" and not _EQUATION.fullmatch(attribute.s.decode("latin-1")):
                # onnx's own inference never comes back from some of these.
                raise ModelError(f"{describe(node)}: equation {attribute.s!r} is not one")
        for inner in graphs_of(node):
            yield from _tensors(inner)


def _check_tensors(model: onnx.ModelProto, folder: Path | None, max_bytes: int) -> None:
    total = 0
    found = list(_tensors(model.graph))
    for function in model.functions:
        found.extend(_node_tensors(list(function.node)))
    for what, tensor in found:
        if tensor.data_type not in _BITS:
            raise ModelError(f"{what}: element type {tensor.data_type} is not known")
        bits = _BITS[tensor.data_type]
        check_shape(tensor.dims, max(1, bits // 8), max_bytes, what)
        count = math.prod(tensor.dims)
        need = (count * bits + 7) // 8
        total += need
        if total > max_bytes:
            raise ModelError(f"{what}: the model's tensors need {total} bytes so far, more than max_bytes={max_bytes}")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _read_external(tensor, folder, need, what)
        _check_payload(tensor, count, need, what)


def _check_payload(tensor: onnx.TensorProto, count: int, need: int, what: str) -> None:
    if tensor.HasField("raw_data"):
        if tensor.data_type == onnx.TensorProto.STRING:
            raise ModelError(f"{what}: a string tensor cannot have raw data")
        if len(tensor.raw_data) != need:
            raise ModelError(
                f"{what}: shape {list(tensor.dims)} needs {need} bytes, the model holds {len(tensor.raw_data)}"
            )
        return
    stored = sum(len(getattr(tensor, field)) for field in _FIELDS)
    per_entry = 8 // _BITS[tensor.data_type] if 0 < _BITS[tensor.data_type] < 8 else 1
    complex_types = (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128)
    wanted = 2 * count if tensor.data_type in complex_types else -(-count // per_entry)
    if stored != wanted:
        raise ModelError(f"{what}: shape {list(tensor.dims)} needs {wanted} values, the model holds {stored}")


def _read_external(tensor: onnx.TensorProto, folder: Path | None, need: int, what: str) -> None:
    """Bring external data inside, from a regular file in the model's own folder and nowhere else."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ModelError(
            f"{what}: its data is in the file {location!r}; a model given as bytes has no folder to read from"
        )
    base = folder.resolve()
    path = (base / location).resolve()
    if not location or Path(location).is_absolute() or base not in path.parents:
        raise ModelError(f"{what}: external data {location!r} is outside the model's folder")
    if not path.is_file():
        raise ModelError(f"{what}: external data {location!r} is not a file in the model's folder")
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(need)))
    except ValueError:
        raise ModelError(f"{what}: external data has an offset or length that is no number") from None
    size = path.stat().st_size
    if length != need or offset < 0 or offset + length > size:
        raise ModelError(
            f"{what}: needs {need} bytes; external data {location!r} of {size} bytes offers {length} at {offset}"
        )
    with path.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT


def describe(node: onnx.NodeProto) -> str:
    """Name a node for a message: its own name, or else what it makes.

    Parameters
    ----------
    node : onnx.NodeProto
        Any node.

    Returns
    -------
    str
    """
    name = node.name or next((o for o in node.output if o), "?")
    return f"node {name!r} ({node.op_type})"


def captured(graph: onnx.GraphProto) -> list[str]:
    """Return the names that an inner graph reads from the graph around it.

    Parameters
    ----------
    graph : onnx.GraphProto
        The branch or body.

    Returns
    -------
    list of str
        In the order in which they are read, each once.
    """
    known = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    free: dict[str, None] = {}
    for node in graph.node:
        names = list(node.input)
        for inner in graphs_of(node):
            names.extend(captured(inner))
        free.update({name: None for name in names if name and name not in known})
        known.update(node.output)
    free.update({o.name: None for o in graph.output if o.name not in known})
    return list(free)


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str], where: str) -> None:
    """Put the nodes in running order; refuse names made twice, read but never made, or made in a circle."""
    known = set(outer) | {i.name for i in graph.input} | {t.name for t in graph.initializer}
    maker: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        for name in node.output:
            if name and (name in maker or name in known):
                raise ModelError(f"{describe(node)}: tensor {name!r} is made a second time")
            if name:
                maker[name] = node
    waiting = {i: {n for n in _reads(node) if n and n not in known} for i, node in enumerate(graph.node)}
    readers: dict[str, list[int]] = {}
    for i, names in waiting.items():
        for name in names:
            readers.setdefault(name, []).append(i)
    order = [i for i, names in waiting.items() if not names]
    for i in order:
        for name in graph.node[i].output:
            known.add(name)
            for reader in readers.get(name, ()):
                waiting[reader].discard(name)
                if not waiting[reader]:
                    order.append(reader)
    if len(order) < len(graph.node):
        done = set(order)
        _explain_stuck([n for i, n in enumerate(graph.node) if i not in done], known, maker)
    in_file_order = all(name in before for before, name in _uses_in_file_order(graph, outer))
    ordered = list(graph.node) if in_file_order else [_copy(graph.node[i]) for i in order]
    for output in graph.output:
        if output.name not in known:
            raise ModelError(f"{where}: nothing makes the output {output.name!r}")
    for node in ordered:
        for inner in graphs_of(node):
            _check_graph(inner, frozenset(known), f"{describe(node)}: inner graph {inner.name!r}")
    if not in_file_order:
        del graph.node[:]
        graph.node.extend(ordered)


def _uses_in_file_order(graph: onnx.GraphProto, outer: frozenset[str]) -> Iterator[tuple[set[str], str]]:
    known = set(outer) | {i.name for i in graph.input} | {t.name for t in graph.initializer}
    for node in graph.node:
        yield from ((known, name) for name in _reads(node) if name)
        known.update(node.output)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _reads(node: onnx.NodeProto) -> list[str]:
    names = list(node.input)
    for inner in graphs_of(node):
        names.extend(captured(inner))
    return names


def _explain_stuck(rest: list[onnx.NodeProto], known: set[str], maker: dict[str, onnx.NodeProto]) -> None:
    for node in rest:
        for name in _reads(node):
            if name and name not in known and name not in maker:
                raise ModelError(
                    f"{describe(node)}: nothing makes its input {name!r}: it is no initialiser, graph input or node output"
                )
    # Every missing name is made by a node that waits as well: following the makers must come back.
    node = rest[0]
    seen: list[onnx.NodeProto] = []
    while not any(node is n for n in seen):
        seen.append(node)
        node = maker[next(n for n in _reads(node) if n and n not in known)]
    first = next(i for i, n in enumerate(seen) if n is node)
    raise ModelError("the graph has a cycle: " + " <- ".join(describe(n) for n in [*seen[first:], node]))


def _inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace calls of the model's own functions by their nodes, so that these are lowered like any others."""
    if not model.functions:
        return model
    bodies = {(f.domain, f.name): [(n.domain, n.op_type) for n in f.node] for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    while len(sizes) < len(bodies):
        ready = [k for k, body in bodies.items() if k not in sizes and not set(body) & (bodies.keys() - sizes)]
        if not ready:
            names = ", ".join(sorted(name for _, name in bodies.keys() - sizes))
            raise ModelError(f"the model's functions call each other in a circle: {names}")
        sizes.update({k: sum(sizes.get(call, 1) for call in bodies[k]) for k in ready})
    total = sum(sizes.get((n.domain, n.op_type), 1) for n in model.graph.node)
    if total > _MAX_NODES:
        raise ModelError(f"the model's functions expand to {total} nodes, more than {_MAX_NODES}")
    try:
        return onnx.inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the model's functions cannot be inlined: {error}") from None


def _check_types(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        onnx.checker.check_model(model)
        return infer(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"not a valid model: {_first_line(error)}") from None
    except onnx.shape_inference.InferenceError as error:
        # Nested, it is about the body that onnx itself gives an operator, some of which do not pass: no fault of the model.
        if str(error).count("Inference error(s)") > 1:
            return infer(model, strict=False)
        raise ModelError(f"types or shapes do not fit: {_first_line(error)}") from None
    except ValueError as error:
        # Protobuf cannot write more than 2 GiB, which these checks would need; the checks above have been made.
        if model.ByteSize() < 2**31:
            raise ModelError(f"not a valid model: {_first_line(error)}") from None
        return model


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__


def to_array(tensor: onnx.TensorProto) -> np.ndarray:
    """Turn a checked tensor into an array of its own, read-only.

    Parameters
    ----------
    tensor : onnx.TensorProto
        A tensor that `read_model` has passed.

    Returns
    -------
    ndarray
    """
    array = onnx.numpy_helper.to_array(tensor)
    if array.flags.writeable:
        array.setflags(write=False)
    return array
