"""Models of single operators through the session and through onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
from support.onnx_graphs import data

from pyint8dot.onnx import InferenceSession

F32, MS = np.float32, {"domain": "com.microsoft"}
KINDS = [np.uint8, np.int8]


def onnxruntime(made, feed):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data(made), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def both(made, feed):
    wanted = onnxruntime(made, feed)
    for value, result in zip(made.graph.output, wanted, strict=True):
        shape = value.type.tensor_type.shape
        if not shape.dim:
            shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_param=f"d{i}") for i in range(result.ndim))
            shape.SetInParent()
    session = InferenceSession(data(made))
    assert not session.report().reference_ops()
    return session.run(None, feed), wanted, session


def codes(rng, kind, *shape):
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max + 1, shape).astype(kind)


def quantisation(rng, kind, *names, low=0.02, high=0.05):
    """Scales and zero points under names such as sx and zx."""
    return {
        **{f"s{n}": np.asarray(rng.uniform(low, high), F32) for n in names},
        **{f"z{n}": np.asarray(rng.integers(60, 120) - (90 if kind is np.int8 else 0), kind) for n in names},
    }


def weights(rng, kind, k, n, columns):
    shape = (n,) if columns else ()
    zero = rng.integers(100, 140, shape).astype(np.uint8) if kind is np.uint8 else np.zeros(shape, np.int8)
    return codes(rng, kind, k, n), rng.uniform(0.001, 0.02, shape).astype(F32), zero
