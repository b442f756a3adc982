"""A module that other libraries import as onnxruntime."""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
import threading
import types
from typing import Any

from pyint8dot.errors import Int8DotError
from pyint8dot.onnx import options, values
from pyint8dot.onnx.errors import InputError, MissingFileError, ModelError, NodeError
from pyint8dot.onnx.session import InferenceSession

# The onnxruntime whose Python surface the tests hold this one against. Clients ask whether it is new enough for them.
VERSION = "1.32.0"

_LOCK = threading.Lock()


class Installed(contextlib.AbstractContextManager[types.ModuleType]):
    """The stand-in, in the place of onnxruntime until `close` is called or the `with` block ends.

    Attributes
    ----------
    module : module
        What `import onnxruntime` returns.
    """

    def __init__(self) -> None:
        modules = _modules()
        self.module = modules["onnxruntime"]
        with _LOCK:
            self._before = _taken_out()
            sys.modules.update(modules)

    def close(self) -> None:
        """Put back what was imported as onnxruntime before; modules that have imported the stand-in keep it."""
        with _LOCK:
            if sys.modules.get("onnxruntime") is self.module:
                _taken_out()
                sys.modules.update(self._before)

    def __enter__(self) -> types.ModuleType:
        return self.module

    def __exit__(self, *_: object) -> None:
        self.close()


def as_onnxruntime() -> Installed:
    """Let other libraries run their models here: from now on `import onnxruntime` gives them this package's sessions.

    It is meant for libraries that import onnxruntime themselves, such as those that embed texts or tell file types, and
    have no argument for another runtime. Call it before they are imported: a module that has imported onnxruntime already
    keeps what it has. Called plainly it holds until the process ends; in a `with` statement until the block does, and what
    was imported in it keeps the stand-in. onnxruntime itself need not be installed; where a library's requirements name it,
    an installer must be told to leave it out. Where it is installed its tools (onnxruntime.quantization ...) can be imported too.

    Returns
    -------
    Installed
        A context manager, with the module as `module` and a method `close`.

    Examples
    --------
    >>> from pyint8dot.onnx import as_onnxruntime
    >>> with as_onnxruntime():
    ...     import onnxruntime
    >>> onnxruntime.get_available_providers()
    ['CPUExecutionProvider']
    """
    return Installed()


def _taken_out() -> dict[str, types.ModuleType]:
    names = [name for name in sys.modules if name == "onnxruntime" or name.startswith("onnxruntime.")]
    return {name: sys.modules.pop(name) for name in names}


def _modules() -> dict[str, types.ModuleType]:
    """Make the module and those of its inner ones that clients import by name."""
    public: dict[str, Any] = {
        "InferenceSession": InferenceSession,
        "SessionIOBinding": values.IOBinding,
        **{name: getattr(values, name) for name in ("IOBinding", "ModelMetadata", "NodeArg", "OrtValue")},
        **{name: getattr(options, name) for name in _OPTIONS},
        "get_build_info": lambda: "pyint8dot",
        "get_version_string": lambda: VERSION,
        "set_seed": _set_seed,
    }
    errors: dict[str, Any] = {
        "Fail": NodeError,
        "RuntimeException": NodeError,
        "EPFail": NodeError,
        "EngineError": NodeError,
        "InvalidArgument": InputError,
        "NoSuchFile": MissingFileError,
        "NoModel": ModelError,
        "InvalidGraph": ModelError,
        "InvalidProtobuf": ModelError,
        "NotImplemented": ModelError,
        "ModelLoaded": ModelError,
        "OrtException": Int8DotError,
    }
    collection = {name: public[name] for name in ("InferenceSession", "IOBinding", "OrtValue")}
    # Its tools, such as onnxruntime.quantization, are Python on top of what is here, and some clients import them by the way.
    installed = importlib.machinery.PathFinder.find_spec("onnxruntime")
    place = [] if installed is None else list(installed.submodule_search_locations or ())
    contents = {
        "onnxruntime": {**public, "__version__": VERSION, "__author__": "pyint8dot", "__path__": place},
        "onnxruntime.capi": {"__path__": []},
        "onnxruntime.capi.onnxruntime_pybind11_state": {**public, **errors},
        "onnxruntime.capi._pybind_state": {**public, **errors},
        "onnxruntime.capi.onnxruntime_inference_collection": {**collection, "Session": InferenceSession},
    }
    made = {}
    for name, content in contents.items():
        made[name] = types.ModuleType(name, "pyint8dot.onnx in the place of onnxruntime.")
        # importlib.util.find_spec, by which clients look for it, wants one.
        made[name].__spec__ = importlib.machinery.ModuleSpec(name, None, is_package="__path__" in content)
        vars(made[name]).update(content)
    for name, module in made.items():
        around, _, last = name.rpartition(".")
        if around:
            setattr(made[around], last, module)
    return made


_OPTIONS = (
    "ExecutionMode ExecutionOrder GraphOptimizationLevel RunOptions SessionOptions disable_telemetry_events "
    "enable_telemetry_events get_all_providers get_available_providers get_device set_default_logger_callback "
    "set_default_logger_severity set_default_logger_verbosity"
).split()


def _set_seed(seed: int) -> None:
    raise NotImplementedError(
        f"the seed of random operators cannot be set to {seed}: each takes its own from the model"
    )
