"""The tensors of a model file: of the size they say, within the bound, their external data inside."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import onnx

from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.errors import ModelError
from pyint8dot.onnx.structure import describe, graphs_of

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
_EQUATION = re.compile(r"[A-Za-z., ]*(->[A-Za-z. ]*)?")
# No array has more dimensions.
_DIMENSIONS = 64
_RANGES = {
    "axis": (-_DIMENSIONS, _DIMENSIONS),
    "axes": (-_DIMENSIONS, _DIMENSIONS),
    "batch_dims": (0, _DIMENSIONS),
    # Where n-grams begin in their pool: the reference counts up to it.
    "ngram_counts": (0, 1 << 20),
}
# Where a tensor without raw bytes keeps its values, and how many entries one element takes.
_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for tensor in graph.initializer:
        yield f"initialiser {tensor.name!r}", tensor
    for sparse in graph.sparse_initializer:
        raise ModelError(f"initialiser {sparse.values.name!r}: sparse tensors are not supported")
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: list[onnx.NodeProto]) -> Iterator[tuple[str, onnx.TensorProto]]:
    for node in nodes:
        if not node.attribute:
            continue
        for attribute in node.attribute:
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                yield f"{describe(node)}: attribute {attribute.name!r}", tensor
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise ModelError(f"{describe(node)}: sparse tensors are not supported")
            _check_attribute(node, attribute)
        for inner in graphs_of(node):
            yield from _tensors(inner)


def _check_attribute(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> None:
    """Refuse values that onnx's own inference does not come back from, or ends the process on."""
    if node.op_type == "Einsum" and not _EQUATION.fullmatch(attribute.s.decode("latin-1")):
        raise ModelError(f"{describe(node)}: equation {attribute.s!r} is not one")
    if node.op_type == "Split" and attribute.name == "num_outputs" and attribute.i != len(node.output):
        raise ModelError(f"{describe(node)}: attribute 'num_outputs' is {attribute.i}, not {len(node.output)}")
    low, high = _RANGES.get(attribute.name, (None, None))
    for value in (attribute.i, *attribute.ints) if low is not None and high is not None else ():
        if not low <= value <= high:
            raise ModelError(f"{describe(node)}: attribute {attribute.name!r} is {value}, not from {low} to {high}")


def check_tensors(model: onnx.ModelProto, files: Files | None, max_bytes: int) -> None:
    """Refuse tensors that are not what they say they are, and bring external data inside.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    files : Files or None
        Where external data may lie; None where there is no such place.
    max_bytes : int
        The most that all tensors may take together.

    Raises
    ------
    ModelError
        If a tensor is broken, too large, or its data is not where it may be.
    """
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
            _read_external(tensor, files, need, what)
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


class Files:
    """The files a model may read: those in its own folder.

    Parameters
    ----------
    folder : path
        The folder.
    model : path, optional
        The model's file.

    Notes
    -----
    A link in the folder leads to a file elsewhere only if the model's own file is reached by a link to the same place, as
    in Hugging Face's cache, where a snapshot is made of links to blobs. A hard link cannot be told from a file, and is
    read as one: who can make it in the model's folder can read what it leads to.
    """

    def __init__(self, folder: Path, model: Path | None = None) -> None:
        self._base = folder.resolve()
        self._blobs = None if model is None or not model.is_symlink() else model.resolve().parent

    def find(self, location: str) -> Path | None:
        """Return the real path of a file of the folder, or None where it is outside."""
        named = PurePosixPath(location.replace("\\", "/"))
        if not location or named.is_absolute() or Path(location).is_absolute() or "\0" in location:
            return None
        path = (self._base / location).resolve()
        if self._base in path.parents:
            return path
        linked = ".." not in named.parts and self._blobs is not None and path.parent == self._blobs
        return path if linked else None


def _read_external(tensor: onnx.TensorProto, files: Files | None, need: int, what: str) -> None:
    """Bring external data inside, from a regular file in the model's own folder and nowhere else."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if files is None:
        raise ModelError(
            f"{what}: its data is in the file {location!r}; a model given as bytes has no folder to read from"
        )
    try:
        path = files.find(location)
        if path is None:
            raise ModelError(f"{what}: external data {location!r} is outside the model's folder")
        if not path.is_file():
            raise ModelError(f"{what}: external data {location!r} is not a file in the model's folder")
        size = path.stat().st_size
        offset, length = _whole(entries, "offset", 0, what), _whole(entries, "length", need, what)
        if length != need or offset < 0 or offset + length > size:
            raise ModelError(
                f"{what}: needs {need} bytes; external data {location!r} of {size} bytes offers {length} at {offset}"
            )
        with path.open("rb") as file:
            file.seek(offset)
            raw = file.read(length)
    except (OSError, RuntimeError, ValueError) as error:
        # No right to read it, a name too long, links in a circle.
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{what}: external data {location!r} cannot be read: {error}") from None
    if len(raw) != need:
        raise ModelError(f"{what}: external data {location!r} has become shorter while it was read")
    tensor.raw_data = raw
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT


def _whole(entries: dict[str, str], key: str, default: int, what: str) -> int:
    text = entries.get(key, str(default))
    try:
        return int(text)
    except ValueError:
        raise ModelError(f"{what}: external data has an {key} that is no number: {text[:40]!r}") from None


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
