"""Values of a session under onnxruntime's names: a tensor that owns its array, and inputs and outputs bound to a session."""

from __future__ import annotations

import ctypes
import math
import operator
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from pyint8dot.onnx.errors import InputError
from pyint8dot.onnx.graph import TensorInfo, element_of, type_name
from pyint8dot.onnx.program import copied

if TYPE_CHECKING:
    from pyint8dot.onnx.session import InferenceSession


def dtype_of(kind: Any) -> Any:
    """Return numpy's type for a type or for ONNX's number of one.

    Parameters
    ----------
    kind : dtype_like or int
        Such as `np.float32`, or 1.

    Returns
    -------
    numpy.dtype

    Raises
    ------
    InputError
        If there is no such type.
    """
    try:
        if isinstance(kind, int) and not isinstance(kind, bool):
            return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        # numpy takes None for float64, but "None" for nothing.
        return np.dtype("None" if kind is None else kind)
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{kind!r} is not an element type") from None


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise InputError(f"a value is made from a numpy array, got {type(value).__name__}")
    return value


def _on_cpu(device_type: str) -> None:
    if device_type not in ("cpu", "CPU"):
        raise InputError(f"the device must be 'cpu', got {device_type!r}")


class OrtValue:
    """One value, in the memory of the processor.

    Made by `ortvalue_from_numpy` or `ortvalue_from_shape_and_type`.

    Examples
    --------
    >>> value = OrtValue.ortvalue_from_numpy(np.ones((2, 3), np.float32))
    >>> value.shape(), value.data_type(), value.device_name()
    ([2, 3], 'tensor(float)', 'cpu')
    """

    def __init__(self, value: Any) -> None:
        self._value = value

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: np.ndarray, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """Wrap an array, without a copy."""
        _on_cpu(device_type)
        return cls(_array(numpy_obj))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: np.ndarray, onnx_element_type: int) -> OrtValue:
        """Wrap the bytes of an array as elements of another type of the same size, by ONNX's number of it."""
        kind = dtype_of(onnx_element_type)
        if _array(data).itemsize != kind.itemsize:
            raise InputError(f"elements of {kind} have {kind.itemsize} bytes, those of {data.dtype} {data.itemsize}")
        return cls(data.view(kind))

    @classmethod
    def from_dlpack(cls, data: Any) -> OrtValue:
        """Wrap the tensor of another library that exports its memory, such as PyTorch, without a copy."""
        return cls(np.from_dlpack(data))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any = np.float32,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
    ) -> OrtValue:
        """Make a tensor of this shape, of zeros."""
        _on_cpu(device_type)
        dims, dtype = _dims(shape), dtype_of(element_type)
        try:
            return cls(np.zeros(dims, dtype))
        except ValueError as error:
            raise InputError(f"there is no array of shape {dims}: {error}") from None

    def numpy(self) -> np.ndarray:
        """Return the array, without a copy."""
        if not self.is_tensor():
            raise InputError(f"a value of type {self.data_type()} is not a tensor")
        return np.asarray(self._value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype, copy=bool(copy)) if copy or dtype is not None else self.numpy()

    def __dlpack__(self, **wanted: Any) -> Any:
        return self.numpy().__dlpack__(**wanted)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, number = self.numpy().__dlpack_device__()
        return int(kind), int(number)

    def value(self) -> Any:
        """Return what is held: an array, a list of arrays, or None."""
        return self._value

    def has_value(self) -> bool:
        """Tell whether it is not the empty value of an optional type."""
        return self._value is not None

    def is_tensor(self) -> bool:
        """Tell whether it is one array."""
        return isinstance(self._value, (np.ndarray, np.generic))

    def is_tensor_sequence(self) -> bool:
        """Tell whether it is a list of arrays."""
        return isinstance(self._value, list)

    def is_sparse_tensor(self) -> bool:
        """Return False: there are none."""
        return False

    def shape(self) -> list[int]:
        """Return the dimensions."""
        return list(self.numpy().shape)

    def element_type(self) -> int:
        """Return ONNX's number of the element type."""
        return element_of(self.numpy().dtype)

    def data_type(self) -> str:
        """Return the type's name, such as `"tensor(float)"`."""
        if self.is_tensor():
            return f"tensor({type_name(self.element_type())})"
        inner = OrtValue(self._value[0]).data_type() if self._value else "tensor(float)"
        return f"seq({inner})"

    def device_name(self) -> str:
        """Return `"cpu"`."""
        return "cpu"

    def data_ptr(self) -> int:
        """Return the address of the first element; it is valid as long as this object lives."""
        return int(self.numpy().ctypes.data)

    def tensor_size_in_bytes(self) -> int:
        """Return the bytes of all elements."""
        return int(self.numpy().nbytes)

    def update_inplace(self, data: np.ndarray | OrtValue) -> None:
        """Copy other elements into it, of the same type and as many."""
        if not isinstance(data, (np.ndarray, OrtValue)):
            raise TypeError(f"data must be a numpy.ndarray or an OrtValue, got {type(data).__name__}")
        mine, other = self.numpy(), data.numpy() if isinstance(data, OrtValue) else data
        if other.size == mine.size:
            other = other.reshape(mine.shape)
        wrong = _misfit(mine, other)
        if wrong:
            raise InputError(f"the new elements must be {mine.dtype} {list(mine.shape)}, {wrong}")
        mine[...] = other


class IOBinding:
    """Inputs and outputs of a session, bound once and used by `InferenceSession.run_with_iobinding`.

    Parameters
    ----------
    session : InferenceSession
        The session they belong to.
    """

    def __init__(self, session: InferenceSession) -> None:
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, OrtValue | None] = {}
        self._results: list[OrtValue] = []
        self._known_inputs = {i.name for i in (*session.get_inputs(), *session.get_overridable_initializers())}
        self._known_outputs = {o.name for o in session.get_outputs()}

    def bind_cpu_input(self, name: str, arr_on_cpu: np.ndarray) -> None:
        """Bind an input to an array."""
        self._inputs[self._known(name, self._known_inputs)] = arr_on_cpu

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Bind an input to a value."""
        self._inputs[self._known(name, self._known_inputs)] = held(name, ortvalue)

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """Bind an input to memory that the caller owns and keeps alive, dense and in C order."""
        self._inputs[self._known(name, self._known_inputs)] = _at(device_type, element_type, shape, buffer_ptr)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Ask for an output: as a new value, or in memory that the caller owns and keeps alive."""
        _on_cpu(device_type)
        target = None
        if buffer_ptr is not None:
            if element_type is None or shape is None:
                raise InputError("element_type and shape must be given with buffer_ptr")
            target = OrtValue(_at(device_type, element_type, shape, buffer_ptr))
        self._outputs[self._known(name, self._known_outputs)] = target

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Ask for an output in the memory of a value of its type and shape."""
        if not isinstance(held(name, ortvalue), np.ndarray):
            raise InputError(f"output {name!r} must be bound to an array, got a value that holds none")
        self._outputs[self._known(name, self._known_outputs)] = ortvalue

    def get_outputs(self) -> list[OrtValue]:
        """Return the results of the last run, in the order in which they were bound."""
        return list(self._results)

    get_outputs_as_ortvaluevector = get_outputs

    def copy_outputs_to_cpu(self) -> list[Any]:
        """Return copies of the results of the last run, as arrays: later runs write into memory that is bound."""
        return [copied(value.value()) for value in self._results]

    def clear_binding_inputs(self) -> None:
        """Forget the inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forget the outputs."""
        self._outputs.clear()
        self._results = []

    def synchronize_inputs(self) -> None:
        """Do nothing: everything is in one memory."""

    def synchronize_outputs(self) -> None:
        """Do nothing: everything is in one memory."""

    def run(self, session: InferenceSession, run_options: Any) -> None:
        """Run the session on what is bound."""
        names = list(self._outputs)
        if not names:
            raise InputError("no output is bound")
        found = session.run(names, self._inputs, run_options)
        results = [(name, self._outputs[name], value) for name, value in zip(names, found, strict=True)]
        # All are looked at before the first is written.
        for name, target, value in results:
            wrong = "" if target is None else _misfit(target.numpy(), value)
            if target is not None and wrong:
                room = target.numpy()
                raise InputError(f"output {name!r} is bound to {room.dtype} {list(room.shape)}, {wrong}")
        self._results = [_into(target, value) for _, target, value in results]

    @staticmethod
    def _known(name: str, names: set[str]) -> str:
        key: Any = name
        if not isinstance(key, str) or name not in names:
            raise InputError(f"there is no {name!r} to bind; there is {', '.join(sorted(map(repr, names))) or 'none'}")
        return name


def _at(device_type: str, kind: Any, shape: Sequence[int], address: int) -> np.ndarray:
    """Return the array at an address that the caller vouches for."""
    _on_cpu(device_type)
    dtype, dims = dtype_of(kind), _dims(shape)
    if dtype.hasobject:
        raise InputError(f"no memory can be bound as {dtype} of shape {dims}")
    size = dtype.itemsize * math.prod(dims)
    given: Any = address
    if not isinstance(given, int) or not 0 <= address <= sys.maxsize - size or (address == 0 and size):
        raise InputError(f"buffer_ptr must be an address, got {address!r}")
    if not size:
        return np.empty(dims, dtype)
    memory: Any = (ctypes.c_char * size).from_address(address)
    found: np.ndarray = np.frombuffer(memory, dtype).reshape(dims)
    return found


def _dims(shape: Sequence[int]) -> list[int]:
    """Return the dimensions of a shape, none of them negative."""
    try:
        dims = [operator.index(d) for d in shape]
    except TypeError:
        raise InputError(f"a shape must be a sequence of ints, got {shape!r}") from None
    if any(d < 0 for d in dims):
        raise InputError(f"shape {dims} has a negative dimension")
    return dims


def held(name: str, value: Any) -> Any:
    """Return what an `OrtValue` holds.

    Parameters
    ----------
    name : str
        What it is for, for the message.
    value : OrtValue
        The value.

    Returns
    -------
    Any

    Raises
    ------
    InputError
        If it is something else.
    """
    if not isinstance(value, OrtValue):
        raise InputError(f"{name!r} must be an OrtValue, got {type(value).__name__}")
    return value.value()


def _misfit(room: np.ndarray, value: Any) -> str:
    """Say why a value cannot be written to an array, nothing where it can."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return f"got {type(value).__name__}"
    if room.dtype != value.dtype or room.shape != value.shape:
        return f"got {value.dtype} {list(value.shape)}"
    return "" if room.flags.writeable else "but the value is read-only"


def _into(target: OrtValue | None, value: Any) -> OrtValue:
    """Put a result where it was asked for."""
    if target is None:
        return OrtValue(value)
    target.numpy()[...] = value
    return target


class ModelMetadata:
    """What a model says of itself.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.producer_name: str = model.producer_name
        self.graph_name: str = model.graph.name
        self.domain: str = model.domain
        self.description: str = model.doc_string
        self.graph_description: str = model.graph.doc_string
        # Of a model that does not say it onnxruntime says the largest number.
        self.version: int = model.model_version if model.HasField("model_version") else 2**63 - 1
        self.custom_metadata_map: dict[str, str] = {entry.key: entry.value for entry in model.metadata_props}


# What onnxruntime calls the description of an input.
NodeArg = TensorInfo
