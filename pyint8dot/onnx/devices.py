"""Names of onnxruntime's that say where a value lies, for code that passes them on: here that is always the processor."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

from pyint8dot.onnx.errors import InputError
from pyint8dot.onnx.values import OrtValue
from pyint8dot.version import __version__


class _Named(enum.Enum):
    """Members that are shown and turned into numbers as those of onnxruntime are."""

    def __int__(self) -> int:
        return int(self.value)


class OrtAllocatorType(_Named):
    """How onnxruntime would ask for memory."""

    INVALID = -1
    ORT_DEVICE_ALLOCATOR = 0
    ORT_ARENA_ALLOCATOR = 1


class OrtMemType(_Named):
    """Whose memory onnxruntime would use."""

    CPU_INPUT = -2
    CPU_OUTPUT = -1
    CPU = -1
    DEFAULT = 0


class OrtHardwareDeviceType(_Named):
    """Kinds of devices."""

    CPU = 0
    GPU = 1
    NPU = 2


class OrtExecutionProviderDevicePolicy(_Named):
    """Which device onnxruntime would prefer."""

    DEFAULT = 0
    PREFER_CPU = 1
    PREFER_NPU = 2
    PREFER_GPU = 3
    MAX_PERFORMANCE = 4
    MAX_EFFICIENCY = 5
    MIN_OVERALL_POWER = 6


class OrtDevice:
    """The processor as a device.

    Parameters
    ----------
    device_type, memory_type : int
        What `cpu` and `default_memory` return.
    *ids : int
        Of the vendor, which may be left out, and of the device.

    Examples
    --------
    >>> OrtDevice.make("cpu", 0).device_id()
    0
    """

    def __init__(self, device_type: int, memory_type: int = 0, *ids: int) -> None:
        if device_type != self.cpu():
            raise InputError(f"the device must be the processor, {self.cpu()}, got {device_type!r}")
        self._memory, self._id = memory_type, ids[-1] if ids else 0

    @staticmethod
    def cpu() -> int:
        """Return the number of the processor among the kinds of devices."""
        return 0

    @staticmethod
    def default_memory() -> int:
        """Return the number of its memory among the kinds of memory."""
        return 0

    @classmethod
    def make(cls, ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:  # noqa: ARG003
        """Return the device of a name, which must be `"cpu"`."""
        if ort_device_name != "cpu":
            raise InputError(f"the device must be 'cpu', got {ort_device_name!r}")
        return cls(cls.cpu(), cls.default_memory(), device_id)

    def device_id(self) -> int:
        """Return the device's number."""
        return self._id

    def device_type(self) -> int:
        """Return what `cpu` returns."""
        return self.cpu()

    def device_mem_type(self) -> int:
        """Return the kind of memory."""
        return self._memory

    def device_vendor_id(self) -> int:
        """Return 0: no vendor's."""
        return 0


class OrtMemoryInfo:
    """Where memory would be asked for; it is kept and changes nothing.

    Parameters
    ----------
    name : str
        Such as `"Cpu"`.
    allocator_type : OrtAllocatorType
        How.
    device_id : int
        On which device.
    mem_type : OrtMemType
        Whose.
    """

    def __init__(self, name: str, allocator_type: OrtAllocatorType, device_id: int, mem_type: OrtMemType) -> None:
        self.name, self.allocator_type, self.device_id, self.mem_type = name, allocator_type, device_id, mem_type


def create_and_register_allocator(mem_info: OrtMemoryInfo, arena_cfg: Any = None) -> None:
    """Do nothing: numpy asks for memory.

    Parameters
    ----------
    mem_info : OrtMemoryInfo
        Where.
    arena_cfg : Any, optional
        How.
    """


def copy_tensors(src: Sequence[OrtValue], dst: Sequence[OrtValue], stream: Any = None) -> None:  # noqa: ARG001
    """Copy the elements of some values into others.

    Parameters
    ----------
    src, dst : sequence of OrtValue
        Equally many, of the same types and numbers of elements.
    stream : Any, optional
        Not used.
    """
    if len(src) != len(dst):
        raise InputError(f"src and dst must be equally many, got {len(src)} and {len(dst)}")
    for one, other in zip(src, dst, strict=True):
        other.update_inplace(one)


def get_ep_devices() -> list[Any]:
    """Return what plugins offer: nothing."""
    return []


def has_collective_ops() -> bool:
    """Return False: a session runs in one process."""
    return False


def preload_dlls(cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: str | None = None) -> None:
    """Do nothing: there are no libraries of devices.

    Parameters
    ----------
    cuda, cudnn, msvc : bool
        Which would be loaded.
    directory : str, optional
        From where.
    """


def print_debug_info() -> None:
    """Print what takes onnxruntime's place."""
    print(f"pyint8dot {__version__} in the place of onnxruntime, on the processor")


def register_execution_provider_library(registration_name: str, library_path: str) -> None:
    """Refuse: native code of others cannot be loaded.

    Parameters
    ----------
    registration_name : str
        What it would be called.
    library_path : str
        Where it is.
    """
    raise NotImplementedError(f"provider {registration_name!r} of {library_path!r} cannot be loaded")


def set_global_thread_pool_sizes(intra_op_num_threads: int = 0, inter_op_num_threads: int = 0) -> None:
    """Check and keep nothing: each session takes its threads from its own options.

    Parameters
    ----------
    intra_op_num_threads, inter_op_num_threads : int
        How many.
    """
    for name, count in (("intra_op", intra_op_num_threads), ("inter_op", inter_op_num_threads)):
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"{name}_num_threads must be an int, got {type(count).__name__}")
