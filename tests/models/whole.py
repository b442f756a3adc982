"""Whole models whose runs are counted, quantised by onnxruntime with its default settings, and kept in the package's cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, version_converter

from models import forms
from models.nets import Family
from pyint8dot.onnx import zoo
from pyint8dot.onnx.zoo import minilm

# The tools write per-tensor QuantizeLinear and DequantizeLinear from this version on.
_OPSET = 13
# How much of a branch is added to what goes around it, so that sixteen of them leave the sum as large as pictures are.
_BRANCH = 0.3


def _picture(seed: int) -> dict[str, np.ndarray]:
    """Smooth patches, as pictures have them."""
    rng = np.random.default_rng([seed, 11])
    coarse = rng.standard_normal((1, 3, 28, 28)).astype(np.float32)
    fine = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
    return {"gpu_0/data_0": coarse.repeat(8, 2).repeat(8, 3) + np.float32(0.1) * fine}


def _light(name: str) -> onnx.ModelProto:
    """Return a net of onnx's own backend tests, which have no weights, with seeded ones."""
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    model = onnx.load(folder / f"light_{name}.onnx")
    graph, rng = model.graph, np.random.default_rng(50)
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    weights = {n.output[0]: shapes[n.input[0]] for n in graph.node if n.op_type == "ConstantOfShape"}
    weights |= {name: np.array(value.shape) for name, value in shapes.items() if "bn_" in name or name.endswith("_b_0")}
    kept = [t for t in graph.initializer if t.name not in weights]
    kept += [numpy_helper.from_array(_seeded(rng, key, shape.tolist()), key) for key, shape in weights.items()]
    nodes = [n for n in graph.node if n.op_type != "ConstantOfShape"]
    read = {name for n in nodes for name in n.input}
    kept = [t for t in kept if t.name in read]
    inputs = [i for i in graph.input if i.name not in {t.name for t in kept} and i.name in read]
    for field, values in (("node", nodes), ("initializer", kept), ("input", inputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(values)
    model.ir_version = 8  # constants are no inputs from there on
    return forms.optimised(version_converter.convert_version(model, _OPSET), level="ORT_ENABLE_BASIC")


def _seeded(rng: np.random.Generator, name: str, shape: list[int]) -> np.ndarray:
    """Weights that keep the size of what passes through, and normalisations that hardly change it."""
    values = rng.standard_normal(shape)
    if len(shape) > 1:
        values *= np.sqrt(2 / np.prod(shape[1:]))
    elif "_bn_riv" in name or "_bn_s" in name:
        values = 1 + 0.1 * np.abs(values)
        values *= _BRANCH if "branch2c_bn_s" in name else 1
    else:
        values *= 0.1
    return values.astype(np.float32)


def _qdq(model: onnx.ModelProto, feed: Callable[[int], dict[str, np.ndarray]]) -> onnx.ModelProto:
    return forms.FORMS["QDQ"](model, Family("", lambda _: model, lambda _, seed: feed(seed)), 1)


def _sentence(_seed: int = 0) -> dict[str, np.ndarray]:
    return minilm.token_feed(0, batch=1, length=128)


#: What makes each model, and what it is fed when it is counted.
MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], Callable[[int], dict[str, np.ndarray]]]] = {
    "minilm": (lambda: _qdq(minilm.float_model(), minilm.token_feed), _sentence),
    "resnet50": (lambda: _qdq(_light("resnet50"), _picture), _picture),
    "shufflenet": (lambda: _qdq(_light("shufflenet"), _picture), _picture),
}


def _place(name: str) -> Path:
    """Return where the file of a model is, or would be."""
    return zoo.cache_folder() / f"counted-{name}-qdq.v{zoo.VERSION}.onnx"


def make(name: str) -> Path:
    """Make a model unless that is done, for which onnxruntime has to be installed, and return its file."""
    path = _place(name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(".part")
        build, _ = MODELS[name]
        onnx.save(build(), written)
        written.replace(path)
    return path


def feed(name: str) -> dict[str, Any]:
    """Return what a model is fed when it is counted."""
    _, feeds = MODELS[name]
    return feeds(99)
