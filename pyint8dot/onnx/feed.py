"""Feeds: what a caller gives for the inputs of a model becomes arrays of exactly their types, or an error that names the input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pyint8dot.arguments import plain
from pyint8dot.onnx.errors import InputError
from pyint8dot.onnx.graph import TensorInfo, element_of, type_name


def checked(feed: Mapping[str, Any], inputs: Sequence[TensorInfo]) -> list[Any]:
    """Return the value of every input, in the order of the model.

    Parameters
    ----------
    feed : mapping of str to array_like
        By name.
    inputs : sequence of TensorInfo
        What the model wants.

    Returns
    -------
    list
        Arrays, or lists where the input is a sequence.

    Raises
    ------
    InputError
        If an input is missing, unknown, or does not fit.
    """
    mapping(feed)
    known = {info.name for info in inputs}
    unknown = [name for name in feed if name not in known]
    if unknown:
        raise InputError(f"the model has no input {listing(unknown)}; it has {listing(info.name for info in inputs)}")
    values = []
    for info in inputs:
        optional = info.type.startswith("optional")
        if info.name not in feed and not optional:
            raise InputError(f"the feed lacks input {info.name!r}, {info.type} of shape {info.shape}")
        value = feed.get(info.name)
        if value is None and not optional:
            raise InputError(f"input {info.name!r} must be {info.type}, got None")
        values.append(_container(info, value) if info.dtype is None else _array(info, value))
    return values


def mapping(feed: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a feed as it is.

    Parameters
    ----------
    feed : mapping of str to array_like
        By name.

    Returns
    -------
    mapping

    Raises
    ------
    InputError
        If it is something else.
    """
    given: Any = feed
    if not isinstance(given, Mapping):
        raise InputError(f"the feed must be a mapping of input names to arrays, got {type(feed).__name__}")
    return feed


def _container(info: TensorInfo, value: Any) -> Any:
    """Return the value of an input that is no tensor of a type numpy has: what it consists of is the nodes' affair."""
    if info.type.startswith("seq("):
        if not isinstance(value, (list, tuple)):
            raise InputError(f"input {info.name!r} must be a list of arrays, {info.type}, got {type(value).__name__}")
        return [_item(info, item) for item in value]
    if isinstance(value, (list, dict)) or value is None:
        return value
    return _item(info, value)


def _item(info: TensorInfo, value: Any) -> Any:
    """Return an array of the element type that stands in the type of a sequence or an optional value."""
    wanted, array = info.type[info.type.find("(") + 1 : -1], _plain(info, value)
    if wanted.startswith("tensor("):
        try:
            found = f"tensor({type_name(element_of(array.dtype))})"
        except (KeyError, ValueError, TypeError):
            found = str(array.dtype)
        if found != wanted:
            raise InputError(f"input {info.name!r} must be {info.type}, got a {found}")
    return array


def _plain(info: TensorInfo, value: Any) -> np.ndarray:
    try:
        array = plain(f"input {info.name!r}", value)
    except Exception as error:  # noqa: BLE001 - whatever an object does when it is made an array
        raise InputError(f"{error}; it must be {info.type}") from None
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _array(info: TensorInfo, value: Any) -> np.ndarray:
    array, wanted = _plain(info, value), info.dtype
    if array.dtype != wanted or array.dtype.kind == "O":
        array = _converted(info, value, array)
    if info.ranked and not info.shape and array.size == 1:
        # Clients give the sampling rate of a speech model, a scalar, as an array of one number, which onnxruntime takes.
        array = array.reshape(())
    if info.ranked and array.ndim != len(info.shape):
        raise InputError(f"input {info.name!r} must have shape {info.shape}, got {list(array.shape)}")
    for size, got in zip(info.shape, array.shape, strict=False):
        # Two dimensions of one symbol need not be equal: models as they are found do not keep to it, nor does onnxruntime.
        if isinstance(size, int) and size != got:
            raise InputError(f"input {info.name!r} must have shape {info.shape}, got {list(array.shape)}")
    return array


def _converted(info: TensorInfo, value: Any, array: np.ndarray) -> np.ndarray:
    """Convert text, and Python's own lists and numbers where that loses nothing but digits."""
    wanted: Any = info.dtype
    if wanted.kind == "O" and array.dtype.kind in "OUS":
        items = [
            v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else v for v in array.reshape(-1).tolist()
        ]
        text = np.empty(len(items), object)
        # As onnxruntime makes text of what is none, such as the missing values and numbers in a column of a table.
        try:
            text[:] = [str(item) for item in items]
        except Exception as error:  # noqa: BLE001 - whatever an object does when it is made text
            raise InputError(f"input {info.name!r} must be {info.type}, got what is no text: {error}") from None
        return text.reshape(array.shape)
    own = isinstance(value, (list, tuple, int, float, bool, complex))
    if own and wanted.kind != "O" and array.dtype.kind in "biufc":
        with np.errstate(over="ignore", invalid="ignore"):
            found = array.astype(wanted)
        if array.dtype.kind in "biuf" and wanted.kind in "biu":
            fits = np.array_equal(found, array)
        else:
            fits = array.size == 0 or np.can_cast(array.dtype, wanted, "same_kind")
            # What is too large for the type is no infinity.
            fits = fits and np.array_equal(np.isfinite(found), np.isfinite(array))
        if fits:
            return found
    raise InputError(f"input {info.name!r} must be {wanted} ({info.type}), got {array.dtype}")


def listing(names: Iterable[str]) -> str:
    """Return names for a message.

    Parameters
    ----------
    names : iterable of str
        Any number of them.

    Returns
    -------
    str
    """
    return ", ".join(repr(name) for name in names) or "none"
