"""A small model that is good, and what a broken one must cause."""

from __future__ import annotations

import numpy as np
import pytest
from support.onnx_graphs import model, node

from pyint8dot import Int8DotError
from pyint8dot.onnx import InferenceSession, ModelError

F32 = np.float32


def good():
    w = np.arange(12, dtype=np.int8).reshape(4, 3)
    return model(
        [node("MatMulInteger", "x w", "p"), node("Cast", "p", "y", to=1)],
        {"x": (np.int8, [2, 4])},
        {"y": F32},
        {"w": w},
    )


def refused(made, words, **options):
    source = made if isinstance(made, (bytes, str)) else made.SerializeToString()
    with pytest.raises(ModelError, match=words) as caught:
        InferenceSession(source, **options)
    assert isinstance(caught.value, Int8DotError)
    assert isinstance(caught.value, ValueError)
