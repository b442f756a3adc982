"""What a caller may set, under onnxruntime's names: options of a session, options of a run, and the process's log level.

A setting that cannot change a result here, such as how many optimisations are made, is kept and changes nothing. One that
asks for something this package cannot do is refused when it is set.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from pyint8dot.engine import threads
from pyint8dot.onnx.bounds import DEFAULT_MAX_BYTES

# The provider that every session runs on, by the name under which clients ask for it.
PROVIDER = "CPUExecutionProvider"
#: The key of the entry that says where a model that is given as bytes finds its external data.
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


class _Level(enum.IntEnum):
    """Numbers that are shown by their names, as those of onnxruntime are."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class GraphOptimizationLevel(_Level):
    """How far onnxruntime would rewrite a graph; every level gives the same values here."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(_Level):
    """Whether onnxruntime would run nodes side by side; here they run one after the other."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(_Level):
    """In which order onnxruntime would run nodes that do not depend on each other."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class _Settings:
    """Attributes of known names and types, and text entries by key."""

    _defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        object.__setattr__(self, "_values", dict(self._defaults))
        object.__setattr__(self, "_entries", {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._defaults:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._defaults:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        wanted = type(self._defaults[name])
        truth = wanted is bool and isinstance(value, (int, np.bool_))
        whole = wanted is int and isinstance(value, (int, np.integer, np.bool_))
        if not (truth or whole or isinstance(value, wanted)):
            raise TypeError(f"{name} must be {wanted.__name__}, got {type(value).__name__}")
        self._values[name] = wanted(value) if truth or whole else value

    def __copy__(self) -> Any:
        made = type(self)()
        for name, value in vars(self).items():
            object.__setattr__(made, name, dict(value))
        return made

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._defaults})

    def _add_entry(self, key: str, value: str) -> None:
        given: tuple[Any, Any] = (key, value)
        if not all(isinstance(text, str) for text in given):
            raise TypeError(f"an entry must be two str, got {type(key).__name__} and {type(value).__name__}")
        self._entries[key] = value

    def _entry(self, key: str) -> str:
        if key not in self._entries:
            raise RuntimeError(f"{type(self).__name__} does not have configuration with key: {key}")
        return str(self._entries[key])


class SessionOptions(_Settings):
    """Options of a session.

    Of the attributes, `intra_op_num_threads` is how many threads one product uses (0: the package's setting), and
    `enable_profiling` with `profile_file_prefix` makes `InferenceSession.end_profiling` write a file. The others change no
    result. The entries `"pyint8dot.kernel"`, `"pyint8dot.num_threads"` and `"pyint8dot.max_bytes"` are the session's own
    keywords, for code that hands on options only.

    Examples
    --------
    >>> options = SessionOptions()
    >>> options.intra_op_num_threads = 2
    >>> options.add_session_config_entry("pyint8dot.kernel", "portable")
    >>> options.get_session_config_entry("pyint8dot.kernel")
    'portable'
    """

    _defaults: ClassVar[dict[str, Any]] = {
        "enable_cpu_mem_arena": True,
        "enable_mem_pattern": True,
        "enable_mem_reuse": True,
        "enable_profiling": False,
        "execution_mode": ExecutionMode.ORT_SEQUENTIAL,
        "execution_order": ExecutionOrder.DEFAULT,
        "graph_optimization_level": GraphOptimizationLevel.ORT_ENABLE_ALL,
        "inter_op_num_threads": 0,
        "intra_op_num_threads": 0,
        "log_severity_level": -1,
        "log_verbosity_level": 0,
        "logid": "",
        "optimized_model_filepath": "",
        "profile_file_prefix": "onnxruntime_profile_",
        "use_deterministic_compute": False,
        "use_per_session_threads": True,
    }

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "symbols", {})
        object.__setattr__(self, "denotations", {})
        object.__setattr__(self, "initializers", {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "optimized_model_filepath" and value:
            raise ValueError("optimized_model_filepath cannot be set: the lowered graph has no file format")
        super().__setattr__(name, value)

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Set an entry by its key; keys of other programs are kept and change nothing."""
        if key == "session.load_model_format" and value != "ONNX":
            raise ValueError(f"session.load_model_format must be ONNX, got {value!r}")
        self._add_entry(key, value)

    def get_session_config_entry(self, key: str) -> str:
        """Return an entry; RuntimeError if there is none of this key."""
        return self._entry(key)

    def add_free_dimension_override_by_name(self, name: str, value: int) -> None:
        """Give a symbolic dimension its size."""
        self.symbols[name] = _size(value)

    def add_free_dimension_override_by_denotation(self, denotation: str, value: int) -> None:
        """Give every input dimension of this denotation its size."""
        self.denotations[denotation] = _size(value)

    def add_initializer(self, name: str, value: Any) -> None:
        """Take the place of an initialiser of the model: an `OrtValue` or an array of the same type and shape."""
        self.initializers[name] = value.numpy() if hasattr(value, "numpy") else np.asarray(value)

    def add_external_initializers(self, names: Sequence[str], values: Sequence[Any]) -> None:
        """Take the place of several initialisers, whose files are then not read."""
        if len(names) != len(values):
            raise ValueError(f"names and values must be equally many, got {len(names)} and {len(values)}")
        for name, value in zip(names, values, strict=True):
            self.add_initializer(name, value)

    def has_providers(self) -> bool:
        """Tell whether a provider was added here, which cannot be."""
        return False

    def add_provider(self, name: str, options: dict[str, str] | None = None) -> None:
        """Name a provider: only the one there is."""
        if name != PROVIDER:
            raise ValueError(f"there is no provider {name!r}; there is {PROVIDER!r}")

    def register_custom_ops_library(self, path: str) -> None:
        """Refuse: native operators of others cannot be loaded."""
        raise NotImplementedError(
            f"custom operators of {path!r} cannot be loaded: sessions run numpy and this package's code"
        )


class RunOptions(_Settings):
    """Options of a run.

    Setting `terminate`, also from another thread, ends a run before its next node. The others change no result.

    Examples
    --------
    >>> options = RunOptions()
    >>> options.terminate
    False
    """

    _defaults: ClassVar[dict[str, Any]] = {
        "log_severity_level": -1,
        "log_verbosity_level": 0,
        "logid": "",
        "only_execute_path_to_fetches": False,
        "terminate": False,
    }

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Set an entry by its key; it changes nothing."""
        self._add_entry(key, value)

    def get_run_config_entry(self, key: str) -> str:
        """Return an entry; RuntimeError if there is none of this key."""
        return self._entry(key)

    def add_active_adapter(self, adapter: Any) -> None:
        """Refuse: there are no adapters."""
        raise NotImplementedError("adapters cannot be added to a run")


def _size(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"the size of a dimension must be an int, got {type(value).__name__}")
    if value < 0:
        raise ValueError(f"the size of a dimension must not be negative, got {value}")
    return int(value)


def get_available_providers() -> list[str]:
    """Return the names of what can run a model: one, the processor."""
    return [PROVIDER]


def get_all_providers() -> list[str]:
    """Return the names of all providers this package has: the same one."""
    return [PROVIDER]


def get_device() -> str:
    """Return the kind of device: `"CPU"`."""
    return "CPU"


def set_default_logger_severity(severity: int) -> None:
    """Check and keep nothing: sessions write no log.

    Parameters
    ----------
    severity : int
        From 0, everything, to 4, what ends the program.
    """
    if isinstance(severity, bool) or not isinstance(severity, int):
        raise TypeError(f"severity must be an int, got {type(severity).__name__}")
    if not 0 <= severity <= 4:
        raise RuntimeError(f"severity must be from 0 to 4, got {severity}")


def set_default_logger_verbosity(verbosity: int) -> None:
    """Check and keep nothing: sessions write no log.

    Parameters
    ----------
    verbosity : int
        Any number.
    """
    if isinstance(verbosity, bool) or not isinstance(verbosity, int):
        raise TypeError(f"verbosity must be an int, got {type(verbosity).__name__}")


def set_default_logger_callback(callback: Callable[..., None]) -> None:
    """Take a function that would be given lines of the log, of which there are none.

    Parameters
    ----------
    callback : callable
        Any function.
    """
    if not callable(callback):
        raise TypeError(f"callback must be callable, got {type(callback).__name__}")


def enable_telemetry_events() -> None:
    """Do nothing: no telemetry is collected."""


def disable_telemetry_events() -> None:
    """Do nothing: no telemetry is collected."""


def entry(options: SessionOptions, key: str) -> str | None:
    """Return an entry of the options, None where there is none."""
    try:
        return options.get_session_config_entry(key)
    except RuntimeError:
        return None


def settings_of(
    options: SessionOptions, kernel: str | None, num_threads: int | None, max_bytes: int | None
) -> tuple[str | None, int | None, int]:
    """Return kernel, threads and bound: as given, or else as the options have them."""
    if kernel is None:
        kernel = entry(options, "pyint8dot.kernel")
    if num_threads is None:
        text = entry(options, "pyint8dot.num_threads")
        num_threads = _number("pyint8dot.num_threads", text) if text else options.intra_op_num_threads
        num_threads = None if num_threads <= 0 else min(num_threads, threads.MOST)
    if max_bytes is None:
        text = entry(options, "pyint8dot.max_bytes")
        max_bytes = _number("pyint8dot.max_bytes", text) if text else DEFAULT_MAX_BYTES
    bound: Any = max_bytes
    if isinstance(bound, bool) or not isinstance(bound, (int, np.integer)):
        raise TypeError(f"max_bytes must be an int, got {type(bound).__name__}")
    if bound < 0:
        raise ValueError(f"max_bytes must not be negative, got {bound}")
    return kernel, num_threads, max_bytes


def _number(key: str, text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"the entry {key!r} must be a number, got {text!r}")
    return int(text)
