"""InceptionV1 (GoogLeNet) with random weights: the graph that comes with the onnx package, filled with seeded numbers.

No trained weights of this network come with a package. Random ones of the right spread serve as well for speed, for the
operators covered and for equality with another runtime, and for nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from pyint8dot.onnx.zoo.builder import Builder

SEED = 20260522
INPUT = "data"
LOGITS = "logits"
_FILE = "backend/test/data/light/light_inception_v1.onnx"


def float_model() -> onnx.ModelProto:
    """Write the float32 model.

    Input `data`, float32 (1, 3, 224, 224); outputs `logits` and `probabilities`, float32 (1, 1000).

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    FileNotFoundError
        If the installed onnx package does not bring the network's graph.
    """
    path = Path(onnx.__file__).parent / _FILE
    if not path.is_file():
        raise FileNotFoundError(f"the onnx package {onnx.__version__} does not bring {_FILE}")
    old = onnx.load(path).graph
    values = {t.name: numpy_helper.to_array(t) for t in old.initializer}
    rng = np.random.default_rng(SEED)
    g = Builder("InceptionV1")
    data = g.input(INPUT, np.float32, [1, 3, 224, 224])
    renamed = {"data_0": data}

    def weights(name: str, shape: tuple[int, ...]) -> str:
        """He-normal: outputs keep the spread of the inputs through ReLU."""
        spread = np.sqrt(2 / np.prod(shape[1:]))
        return g.constant(name, rng.standard_normal(shape, np.float32) * np.float32(spread))

    def bias(name: str, length: int) -> str:
        return g.constant(name, rng.standard_normal(length, np.float32) * np.float32(0.1))

    shapes = {
        node.output[0]: tuple(values[node.input[0]].tolist()) for node in old.node if node.op_type == "ConstantOfShape"
    }
    shapes.update({name: array.shape for name, array in values.items()})
    for node in old.node:
        sources = [renamed.get(name, name) for name in node.input]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        result = node.output[0]
        if node.op_type == "Conv":
            shape = shapes[sources[1]]
            inputs = [sources[0], weights(sources[1], shape), bias(sources[2], shape[0])]
            renamed[result] = g.add("Conv", inputs, sources[1].removesuffix("_w_0"), **attributes)
        elif node.op_type == "Dropout" or (node.op_type == "Reshape" and result != "r141"):
            renamed[result] = sources[0]
        elif node.op_type == "Reshape":
            flat = g.constant("flat shape", [0, -1], np.int64)
            renamed[result] = g.add("Reshape", [sources[0], flat], "features")
        elif node.op_type == "Gemm":
            w, b = weights("loss3/classifier_w", (1000, 1024)), bias("loss3/classifier_b", 1000)
            g.constants[w] = g.constants[w].T
            product = g.add("MatMul", [sources[0], w], "classifier")
            renamed[result] = g.add("Add", [product, b], LOGITS)
        elif node.op_type == "Softmax":
            renamed[result] = g.add("Softmax", [sources[0]], "probabilities", axis=-1)
        elif node.op_type != "ConstantOfShape":
            renamed[result] = g.add(node.op_type, sources, f"{node.op_type} {result}", **attributes)
    g.output(LOGITS, np.float32, [1, 1000])
    g.output("probabilities", np.float32, [1, 1000])
    return g.model()


def image(seed: int = 0) -> np.ndarray:
    """Make a seeded picture: random noise over a smooth ground, spread about as photographs are after normalisation.

    Parameters
    ----------
    seed : int
        Which one.

    Returns
    -------
    ndarray of float32, shape (1, 3, 224, 224)
    """
    rng = np.random.default_rng(SEED + 1 + seed)
    coarse = rng.standard_normal((1, 3, 14, 14), np.float32).repeat(16, 2).repeat(16, 3)
    return np.asarray(coarse + np.float32(0.5) * rng.standard_normal((1, 3, 224, 224), np.float32))
