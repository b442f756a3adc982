"""The forms in which onnxruntime's tools write a net: quantised in each way with the tools' default settings, and optimised."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.nets import Family

Write = Callable[[onnx.ModelProto, Family, int], onnx.ModelProto]


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the tools' advice."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


class _Reader:
    def __init__(self, feeds: Iterator[dict[str, np.ndarray]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def _files(model: onnx.ModelProto, write: Callable[[str, str], Any]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, _quietly():
        before, after = (str(Path(folder, name)) for name in ("before.onnx", "after.onnx"))
        onnx.save(model, before)
        write(before, after)
        return onnx.load(after)


def dynamic(model: onnx.ModelProto, family: Family, size: int) -> onnx.ModelProto:
    from onnxruntime.quantization import quantize_dynamic

    return _files(model, quantize_dynamic)


def _static(form: str) -> Write:
    def write(model: onnx.ModelProto, family: Family, size: int) -> onnx.ModelProto:
        from onnxruntime.quantization import QuantFormat, quantize_static

        return _files(
            model,
            lambda before, after: quantize_static(
                before, after, _Reader(family.feeds(size, 3)), quant_format=QuantFormat[form]
            ),
        )

    return write


def optimised(
    model: onnx.ModelProto, family: Family | None = None, size: int = 1, *, level: str = "ORT_ENABLE_EXTENDED"
) -> onnx.ModelProto:
    import onnxruntime as ort

    def write(before: str, after: str) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.optimized_model_filepath = after
        options.log_severity_level = 3
        ort.InferenceSession(before, options, providers=["CPUExecutionProvider"])

    return _files(model, write)


def _nbits(bits: int, level: int, block: int = 32) -> Write:
    """MatMulNBits for every product with a constant matrix, symmetric, with a scale for each block of a column.

    onnxruntime's own tool for it needs a package that it does not bring along.
    """

    def write(model: onnx.ModelProto, family: Family, size: int) -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        constants = {t.name: t for t in made.graph.initializer}
        for node in made.graph.node:
            tensor = constants.get(node.input[1]) if node.op_type == "MatMul" else None
            if tensor is None or len(tensor.dims) != 2:
                continue
            w = numpy_helper.to_array(tensor)
            packed, scales = _packed(w, bits, block)
            names = [f"{tensor.name}_{name}" for name in ("codes", "scales")]
            values = zip((packed, scales), names, strict=True)
            made.graph.initializer.extend(numpy_helper.from_array(v, name) for v, name in values)
            attrs = {"K": w.shape[0], "N": w.shape[1], "bits": bits, "block_size": block, "accuracy_level": level}
            node.CopyFrom(
                helper.make_node(
                    "MatMulNBits",
                    [node.input[0], *names],
                    list(node.output),
                    node.name,
                    domain="com.microsoft",
                    **attrs,
                )
            )
        read = {name for node in made.graph.node for name in node.input}
        kept = [t for t in made.graph.initializer if t.name in read]
        del made.graph.initializer[:]
        made.graph.initializer.extend(kept)
        made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        return made

    return write


def _packed(w: np.ndarray, bits: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantise the columns of a matrix block by block: codes of shape (n, blocks, bytes), scales (n, blocks)."""
    k, n = w.shape
    blocks = -(-k // block)
    rows = np.zeros((n, blocks * block), np.float32)
    rows[:, :k] = w.T
    rows = rows.reshape(n, blocks, block)
    half = 1 << (bits - 1)
    scales = np.maximum(np.abs(rows).max(axis=2), np.float32(1e-6)) / np.float32(half - 1)
    codes = (np.rint(rows / scales[..., None]) + half).astype(np.uint8)
    if bits == 4:
        codes = codes[..., ::2] | codes[..., 1::2] << 4
    return codes, scales


def _then_optimised(write: Write) -> Write:
    return lambda model, family, size: optimised(write(model, family, size))


FORMS: dict[str, Write] = {
    "float": lambda model, _family, _size: model,
    "float, optimised": optimised,
    "dynamic": dynamic,
    "dynamic, optimised": _then_optimised(dynamic),
    "QOperator": _static("QOperator"),
    "QDQ": _static("QDQ"),
    "QDQ, optimised": _then_optimised(_static("QDQ")),
    "4 bits": _nbits(4, 4),
    "8 bits": _nbits(8, 0),
}
