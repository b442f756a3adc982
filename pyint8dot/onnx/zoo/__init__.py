"""The two models of the tests and the demonstration, made from installed packages on first use and kept in a cache.

The cache is ``~/.cache/pyint8dot``, or the folder named by the environment variable ``PYINT8DOT_CACHE``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx

from pyint8dot.onnx.session import InferenceSession
from pyint8dot.onnx.zoo import inception, minilm, quantizer, smoothing

__all__ = ["MODELS", "build", "cache_folder", "model_path"]

CACHE_VARIABLE = "PYINT8DOT_CACHE"
# Part of every file name: a model written another way is another file.
VERSION = 1
_CALIBRATION_IMAGES = 2
_CALIBRATION_TEXTS = 5


def _minilm_int8() -> onnx.ModelProto:
    model = minilm.float_model()
    results = _observe(model, map(minilm.token_feed, range(_CALIBRATION_TEXTS)))
    peaks: dict[str, np.ndarray] = {}
    normalised = {n.output[0] for n in model.graph.node if n.op_type == "LayerNormalization"}
    multiplied = {n.input[0] for n in model.graph.node if n.op_type == "MatMul"}
    for values in results:
        for name in normalised & multiplied:
            peak = np.abs(values[name]).max(axis=(0, 1))
            peaks[name] = np.maximum(peaks.get(name, peak), peak)
    return quantizer.dynamic(smoothing.smooth(model, peaks), per_channel=True)


def _inception_static(act_dtype: type[np.generic], form: str = "QOperator") -> onnx.ModelProto:
    model = inception.float_model()
    ranges: dict[str, tuple[float, float]] = {}
    feeds = ({inception.INPUT: inception.image(seed)} for seed in range(_CALIBRATION_IMAGES))
    for values in _observe(model, feeds):
        for name, value in values.items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return quantizer.static(model, ranges, act_dtype=act_dtype, form=form)


def _observe(model: onnx.ModelProto, feeds: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Run a model and yield every tensor of it, inputs included, for each feed."""
    copy = onnx.shape_inference.infer_shapes(model)
    last = {output.name for output in copy.graph.output}
    copy.graph.output.extend(value for value in copy.graph.value_info if value.name not in last)
    names = [output.name for output in copy.graph.output]
    session = InferenceSession(copy.SerializeToString())
    for feed in feeds:
        yield {**feed, **dict(zip(names, session.run(names, feed), strict=True))}


#: How each model is made, by name.
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "minilm-float32": minilm.float_model,
    "minilm-int8": _minilm_int8,
    "inceptionv1-float32": inception.float_model,
    "inceptionv1-s8s8": lambda: _inception_static(np.int8),
    "inceptionv1-u8s8": lambda: _inception_static(np.uint8),
    "inceptionv1-qdq": lambda: _inception_static(np.int8, "QDQ"),
    "inceptionv1-dynamic": lambda: quantizer.dynamic(inception.float_model(), per_channel=False, weight_dtype=np.uint8),
}


def cache_folder() -> Path:
    """Return the folder the models are kept in."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "pyint8dot"


def place(name: str) -> Path:
    """Return where the file of a model is, or would be."""
    return cache_folder() / f"{name}.v{VERSION}.onnx"


def build(name: str) -> onnx.ModelProto:
    """Make a model anew.

    Parameters
    ----------
    name : str
        A key of `MODELS`.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ValueError
        If there is no such model.
    ModuleNotFoundError
        If a package it is made from is not installed.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]()


def model_path(name: str) -> Path:
    """Return the file of a model, making it on first use.

    Parameters
    ----------
    name : str
        A key of `MODELS`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If there is no such model.
    ModuleNotFoundError
        If a package it is made from is not installed.
    """
    path = place(name)
    if path.is_file():
        return path
    data = build(name).SerializeToString(deterministic=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and then moved there, so that nobody ever sees half a model.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
