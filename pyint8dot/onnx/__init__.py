"""Run int8 ONNX models on this package's kernels (extra `pyint8dot[onnx]`).

`InferenceSession` has the shape of onnxruntime's; `onnx_ops` plugs the same operators into onnx's reference evaluator.
"""

from __future__ import annotations

try:
    import onnx as _onnx  # noqa: F401 - only to say at once what is missing
except ImportError as error:
    raise ImportError("pyint8dot.onnx needs the onnx package: pip install 'pyint8dot[onnx]'") from error

from pyint8dot.onnx.errors import InputError, MissingFileError, ModelError, NodeError
from pyint8dot.onnx.graph import TensorInfo
from pyint8dot.onnx.options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
    disable_telemetry_events,
    enable_telemetry_events,
    get_all_providers,
    get_available_providers,
    get_device,
    set_default_logger_callback,
    set_default_logger_severity,
    set_default_logger_verbosity,
)
from pyint8dot.onnx.reference import onnx_ops
from pyint8dot.onnx.report import Report, Row
from pyint8dot.onnx.session import InferenceSession
from pyint8dot.onnx.standin import as_onnxruntime
from pyint8dot.onnx.values import IOBinding, ModelMetadata, NodeArg, OrtValue
from pyint8dot.version import __version__

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "InputError",
    "MissingFileError",
    "ModelError",
    "ModelMetadata",
    "NodeArg",
    "NodeError",
    "OrtValue",
    "Report",
    "Row",
    "RunOptions",
    "SessionOptions",
    "TensorInfo",
    "__version__",
    "as_onnxruntime",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_device",
    "onnx_ops",
    "set_default_logger_callback",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
]


def __dir__() -> list[str]:
    return __all__
