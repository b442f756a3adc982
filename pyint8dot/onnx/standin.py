"""A module that other libraries import as onnxruntime."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.metadata
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

from pyint8dot.errors import Int8DotError
from pyint8dot.onnx import devices, options, values
from pyint8dot.onnx.errors import MissingFileError, ModelError, NodeError
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
        self._finder = _Metadata()
        with _LOCK:
            self._before = _taken_out()
            sys.modules.update(modules)
            # Behind all others: where onnxruntime is installed its own metadata is found first.
            sys.meta_path.append(self._finder)

    def close(self) -> None:
        """Put back what was imported as onnxruntime before; modules that have imported the stand-in keep it."""
        with _LOCK:
            if sys.modules.get("onnxruntime") is self.module:
                _taken_out()
                sys.modules.update(self._before)
            if self._finder in sys.meta_path:
                sys.meta_path.remove(self._finder)

    def __enter__(self) -> types.ModuleType:
        return self.module

    def __exit__(self, *_: object) -> None:
        self.close()


class _Distribution(importlib.metadata.Distribution):
    """What a client learns that asks for the version of the installed distribution before it imports the module."""

    def read_text(self, filename: str) -> str | None:
        wanted = filename == "METADATA"
        return f"Metadata-Version: 2.1\nName: onnxruntime\nVersion: {VERSION}\n" if wanted else None

    def locate_file(self, path: str | os.PathLike[str]) -> Any:
        return Path(path)


class _Metadata(importlib.metadata.DistributionFinder):
    """Finds the distribution `onnxruntime`, and no modules."""

    def find_spec(self, *_: Any) -> None:
        """Return None: the modules are in place already."""

    def find_distributions(self, context: Any = None) -> list[_Distribution]:
        """Return the one distribution where it is asked for by name."""
        return [_Distribution()] if getattr(context, "name", None) == "onnxruntime" else []


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
        **{name: getattr(devices, name) for name in _DEVICES},
        **{name: getattr(values, name) for name in ("IOBinding", "ModelMetadata", "NodeArg", "OrtValue")},
        **{name: getattr(options, name) for name in _OPTIONS},
        "get_build_info": lambda: "pyint8dot",
        "get_version_string": lambda: VERSION,
        "set_seed": _set_seed,
    }
    errors: dict[str, Any] = {
        # What goes wrong in loading and in running alike, be it the model's fault, a feed's or a node's.
        "Fail": Int8DotError,
        "InvalidArgument": Int8DotError,
        "RuntimeException": NodeError,
        "EPFail": NodeError,
        "EngineError": NodeError,
        "NoSuchFile": MissingFileError,
        "NoModel": ModelError,
        "InvalidGraph": ModelError,
        "InvalidProtobuf": ModelError,
        "NotImplemented": ModelError,
        "ModelLoaded": ModelError,
        "ModelLoadCanceled": ModelError,
        "ModelRequiresCompilation": ModelError,
        "NotFound": ModelError,
        "DeviceReset": NodeError,
        "OrtException": Int8DotError,
    }
    collection = {
        name: public[name] for name in ("InferenceSession", "IOBinding", "OrtDevice", "OrtValue", "copy_tensors")
    }
    # Its tools, such as onnxruntime.quantization, are Python on top of what is here, and some clients import them by the way.
    installed = importlib.machinery.PathFinder.find_spec("onnxruntime")
    place = [] if installed is None else list(installed.submodule_search_locations or ())
    versions = {"__version__": VERSION, "version": VERSION, "package_name": "onnxruntime", "cuda_version": ""}
    contents = {
        "onnxruntime": {**public, **versions, "__author__": "pyint8dot", "__path__": place},
        "onnxruntime.capi": {"__path__": [os.path.join(path, "capi") for path in place]},  # noqa: PTH118 - a list of str
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


_DEVICES = (
    "OrtAllocatorType OrtDevice OrtExecutionProviderDevicePolicy OrtHardwareDeviceType OrtMemType OrtMemoryInfo copy_tensors "
    "create_and_register_allocator get_ep_devices has_collective_ops preload_dlls print_debug_info "
    "register_execution_provider_library set_global_thread_pool_sizes"
).split()
_OPTIONS = (
    "ExecutionMode ExecutionOrder GraphOptimizationLevel RunOptions SessionOptions disable_telemetry_events "
    "enable_telemetry_events get_all_providers get_available_providers get_device set_default_logger_callback "
    "set_default_logger_severity set_default_logger_verbosity"
).split()


def _set_seed(seed: int) -> None:
    raise NotImplementedError(
        f"the seed of random operators cannot be set to {seed}: each takes its own from the model"
    )
