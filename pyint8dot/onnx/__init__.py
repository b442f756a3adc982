"""Run int8 ONNX models on this package's kernels (extra `pyint8dot[onnx]`).

`InferenceSession` has the shape of onnxruntime's; `onnx_ops` plugs the same operators into onnx's reference evaluator.
"""

from __future__ import annotations

try:
    import onnx as _onnx  # noqa: F401 - only to say at once what is missing
except ImportError as error:
    raise ImportError("pyint8dot.onnx needs the onnx package: pip install 'pyint8dot[onnx]'") from error

from pyint8dot.onnx.errors import InputError, ModelError, NodeError
from pyint8dot.onnx.graph import TensorInfo
from pyint8dot.onnx.reference import onnx_ops
from pyint8dot.onnx.report import Report, Row
from pyint8dot.onnx.session import InferenceSession

__all__ = [
    "InferenceSession",
    "InputError",
    "ModelError",
    "NodeError",
    "Report",
    "Row",
    "TensorInfo",
    "onnx_ops",
]
