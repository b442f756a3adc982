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


def optimised(model: onnx.ModelProto, family: Family | None = None, size: int = 1) -> onnx.ModelProto:
    import onnxruntime as ort

    def write(before: str, after: str) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = after
        options.log_severity_level = 3
        ort.InferenceSession(before, options, providers=["CPUExecutionProvider"])

    return _files(model, write)


def _nbits(bits: int, level: int) -> Write:
    def write(model: onnx.ModelProto, family: Family, size: int) -> onnx.ModelProto:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        with _quietly():
            tool = MatMulNBitsQuantizer(copy, bits=bits, block_size=32, is_symmetric=True, accuracy_level=level)
            tool.process()
        return tool.model.model

    return write


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
