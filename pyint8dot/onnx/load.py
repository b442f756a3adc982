"""Reading a model: everything that can be wrong with a file is found here, before anything runs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError

from pyint8dot.onnx.contrib.inference import infer, write_out
from pyint8dot.onnx.errors import MissingFileError, ModelError
from pyint8dot.onnx.structure import check_graph, graphs_of
from pyint8dot.onnx.tensors import Files, check_tensors

Source: TypeAlias = "str | os.PathLike[str] | bytes"

# Functions that call each other twice and twice again grow without bound when they are written out, and the time it takes
# grows with the square of how deep the calls are.
_MAX_NODES = 1_000_000
_MAX_DEPTH = 100
# Elements of a tensor that is left out where only types are of interest.
_LARGE = 1 << 18


@dataclass
class Overrides:
    """What a caller sets in the place of what the model says.

    Attributes
    ----------
    symbols, denotations : mapping of str to int
        Sizes of dimensions by the name of their symbol, and by their denotation.
    initializers : mapping of str to ndarray
        In the place of initialisers of the same type and shape.
    folder : str or None
        Where a model that is given as bytes has its external data.
    """

    symbols: Mapping[str, int] = field(default_factory=dict)
    denotations: Mapping[str, int] = field(default_factory=dict)
    initializers: Mapping[str, np.ndarray] = field(default_factory=dict)
    folder: str | None = None


def read_model(source: Source, max_bytes: int, overrides: Overrides | None = None) -> onnx.ModelProto:
    """Read a model and make sure that it is one.

    Parameters
    ----------
    source : str, path or bytes
        File name, or the bytes of the file. External data is read only for a file, and only from its own folder.
    max_bytes : int
        The most that the model's tensors may take together.
    overrides : Overrides, optional
        What the caller sets in the place of what the model says.

    Returns
    -------
    onnx.ModelProto
        The model with its nodes in an order in which they can run, its external data inside, its types inferred.

    Raises
    ------
    ModelError
        If the file is not a model, or the model is broken, names what it does not have, or is too large. If there is no such
        file it is a FileNotFoundError as well.
    TypeError
        If `source` is neither a file name nor bytes.
    """
    given = Overrides() if overrides is None else overrides
    model, files = _parse(source, max_bytes)
    if files is None and given.folder is not None:
        files = Files(Path(given.folder))
    try:
        _short_domains(model)
        _check_head(model)
        _override(model, given)
        check_tensors(model, files, max_bytes)
        check_graph(model.graph)
        model = _inline(model)
        write_out(model)
        _name_types(model)
        return _without_invented(_symbols(model), _with_types(model))
    except ModelError:
        raise
    except Exception as error:
        # What onnx's own code says of a model that it cannot work on.
        raise ModelError(f"not a valid model: {type(error).__name__}: {_first_line(error)}") from error


def overridable(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs of a model that have an initialiser as their default, which they can have since ir_version 4.

    Parameters
    ----------
    model : onnx.ModelProto
        A model that `read_model` has passed.

    Returns
    -------
    list of onnx.ValueInfoProto
    """
    names = {tensor.name for tensor in model.graph.initializer} if model.ir_version >= 4 else set()
    return [value for value in model.graph.input if value.name in names]


def _parse(source: Source, max_bytes: int) -> tuple[onnx.ModelProto, Files | None]:
    files: Files | None
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, files, what = bytes(source), None, f"the model of {len(source)} bytes"
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            if not path.is_file():
                raise MissingFileError(f"there is no model file {str(path)!r}")
            size = path.stat().st_size
            if size > max_bytes:
                raise ModelError(f"{path}: {size} bytes, more than max_bytes={max_bytes}")
            data, files, what = path.read_bytes(), Files(path.parent, path), str(path)
        except (OSError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"{str(path)!r}: the file cannot be read: {error}") from None
    else:
        raise TypeError(f"the model must be a file name or bytes, not {type(source).__name__}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{what}: not an ONNX model, or cut short ({error})") from None
    if not data or not model.HasField("graph"):
        raise ModelError(f"{what}: not an ONNX model: it holds no graph")
    return model, files


def _short_domains(model: onnx.ModelProto) -> None:
    """Call ONNX's own domain by its shorter name: onnx knows operators by that alone."""
    found: list[onnx.NodeProto | onnx.OperatorSetIdProto] = [*model.opset_import]
    for function in model.functions:
        found += [*function.opset_import, *_nodes(function.node)]
    found += _nodes(model.graph.node)
    for each in found:
        if each.domain == "ai.onnx":
            each.domain = ""


def _check_head(model: onnx.ModelProto) -> None:
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise ModelError(
            f"ir_version {model.ir_version} is not known: onnx {onnx.__version__} reads 1 to {onnx.IR_VERSION}"
        )
    versions = {o.domain: o.version for o in model.opset_import}
    if not versions:
        raise ModelError("the model imports no operator set")
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= versions.get("", 1) <= newest:
        raise ModelError(f"opset {versions['']} is not known: onnx {onnx.__version__} knows 1 to {newest}")


def _override(model: onnx.ModelProto, given: Overrides) -> None:
    """Put in what the caller sets, and take out sizes below 0, by which writers mean sizes that are not known."""
    for values in _values(model.graph):
        for value in values:
            for dim in value.type.tensor_type.shape.dim:
                size = given.symbols.get(dim.dim_param, given.denotations.get(dim.denotation))
                if size is not None and not dim.HasField("dim_value"):
                    dim.dim_value = size
                elif dim.HasField("dim_value") and dim.dim_value < 0:
                    dim.ClearField("dim_value")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, array in given.initializers.items():
        if name not in tensors:
            raise ModelError(f"the model has no initialiser {name!r} that could be replaced")
        made, old = onnx.numpy_helper.from_array(array, name), tensors[name]
        if made.data_type != old.data_type or list(made.dims) != list(old.dims):
            raise ModelError(
                f"initialiser {name!r}: what replaces it must have its type and its shape {list(old.dims)}, "
                f"got {array.dtype} {list(array.shape)}"
            )
        old.CopyFrom(made)


def _symbols(model: onnx.ModelProto) -> set[str]:
    return {
        dim.dim_param for values in _values(model.graph) for value in values for dim in value.type.tensor_type.shape.dim
    }


def _without_invented(symbols: set[str], model: onnx.ModelProto) -> onnx.ModelProto:
    """Leave open what onnx's inference has only given a name of its own: clients take a name for one of the model's."""
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param.startswith("unk__") and dim.dim_param not in symbols:
                dim.ClearField("dim_param")
    return model


def _values(graph: onnx.GraphProto) -> Iterator[Sequence[onnx.ValueInfoProto]]:
    yield from (graph.input, graph.output, graph.value_info)
    for node in graph.node:
        for inner in graphs_of(node) if node.attribute else ():
            yield from _values(inner)


def _inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace calls of the model's own functions by their nodes, so that these are lowered like any others."""
    if not model.functions:
        return model
    bodies = {(f.domain, f.name): list(_calls(f.node)) for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    deep: dict[tuple[str, str], int] = {}
    readers: dict[tuple[str, str], list[tuple[str, str]]] = {key: [] for key in bodies}
    waiting = {key: len({call for call in body if call in bodies}) for key, body in bodies.items()}
    for key, body in bodies.items():
        for call in {call for call in body if call in bodies}:
            readers[call].append(key)
    ready = [key for key, count in waiting.items() if count == 0]
    for key in ready:
        sizes[key] = sum(sizes.get(call, 1) for call in bodies[key])
        deep[key] = 1 + max((deep.get(call, 0) for call in bodies[key]), default=0)
        for reader in readers[key]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(sizes) < len(bodies):
        names = sorted(name for _, name in bodies.keys() - sizes)
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise ModelError(f"the model's functions call each other in a circle: {', '.join(names[:8])}{more}")
    deepest = max(deep, key=lambda key: deep[key])
    if deep[deepest] > _MAX_DEPTH:
        raise ModelError(
            f"the model's function {deepest[1]!r} calls others {deep[deepest]} deep, deeper than {_MAX_DEPTH}"
        )
    total = sum(sizes.get(call, 1) for call in _calls(model.graph.node))
    if total > _MAX_NODES:
        raise ModelError(f"the model's functions expand to {total} nodes, more than {_MAX_NODES}")
    try:
        return onnx.inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the model's functions cannot be inlined: {error}") from None


def _calls(nodes: Sequence[onnx.NodeProto]) -> Iterator[tuple[str, str]]:
    """Yield domain and operator of nodes and of all nodes inside them."""
    return ((node.domain, node.op_type) for node in _nodes(nodes))


def _nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes and all nodes inside them."""
    for node in nodes:
        yield node
        for inner in graphs_of(node) if node.attribute else ():
            yield from _nodes(inner.node)


def _check_model(model: onnx.ModelProto) -> None:
    """Let onnx check it, which wants a shape of each input and output that a model may well leave open."""
    open_shapes = [
        value.type.tensor_type
        for value in (*model.graph.input, *model.graph.output)
        if value.type.WhichOneof("value") == "tensor_type" and not value.type.tensor_type.HasField("shape")
    ]
    for tensor in open_shapes:
        tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    finally:
        for tensor in open_shapes:
            tensor.ClearField("shape")


def _name_types(model: onnx.ModelProto) -> None:
    """Give outputs their types: who makes a tensor an output to look at it names the tensor alone, and onnxruntime takes that."""
    unknown = [value for value in model.graph.output if value.type.WhichOneof("value") is None]
    if not unknown:
        return
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = infer(copy, strict=False).graph
    known = {value.name: value for value in (*graph.output, *graph.value_info, *graph.input)}
    for tensor in model.graph.initializer:
        known[tensor.name] = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
    for value in unknown:
        if known[value.name].type.WhichOneof("value") is None:
            raise ModelError(f"output {value.name!r}: its type is not said, and cannot be inferred")
        value.CopyFrom(known[value.name])


def _with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the types of its tensors, without large ones being written out: nothing depends on their values.

    onnx's checks and its inference are given a model as bytes, which doubles what it takes and cannot be more than 2 GiB.
    """
    whole = model.graph
    large = [t for t in whole.initializer if t.HasField("raw_data") and math.prod(t.dims) >= _LARGE]
    names = {tensor.name for tensor in large}
    if not names:
        return _check_types(model)
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = light.graph
    graph.name = whole.name
    for part in ("node", "input", "output", "value_info"):
        getattr(graph, part).extend(getattr(whole, part))
    graph.initializer.extend(tensor for tensor in whole.initializer if tensor.name not in names)
    given = {value.name for value in graph.input}
    for tensor in large:
        if tensor.name not in given:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    known = _check_types(light).graph
    for part in ("node", "output", "value_info"):
        del getattr(whole, part)[:]
        getattr(whole, part).extend(getattr(known, part))
    return model


def _check_types(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        _check_model(model)
        return infer(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"not a valid model: {_first_line(error)}") from None
    except onnx.shape_inference.InferenceError as error:
        # Nested, it is about the body that onnx itself gives an operator, some of which do not pass: no fault of the model.
        if str(error).count("Inference error(s)") > 1:
            return infer(model, strict=False)
        raise ModelError(f"types or shapes do not fit: {_first_line(error)}") from None
    except EncodeError:
        # Tensors inside branches and bodies are more than protobuf can write, 2 GiB; the checks above have been made.
        return model
    except ValueError as error:
        raise ModelError(f"not a valid model: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__
