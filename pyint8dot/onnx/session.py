"""The session: an ONNX model lowered once, and run as a list of numpy and kernel calls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pyint8dot.arguments import plain
from pyint8dot.engine import dispatch, threads
from pyint8dot.onnx.bounds import DEFAULT_MAX_BYTES
from pyint8dot.onnx.compile import Program, Step, Take, compile_graph, taking
from pyint8dot.onnx.errors import InputError, ModelError, NodeError
from pyint8dot.onnx.graph import Graph, TensorInfo
from pyint8dot.onnx.load import Source, read_model
from pyint8dot.onnx.report import Report
from pyint8dot.onnx.rewrite.patterns import fuse


class InferenceSession:
    """Run an ONNX model, its int8 products on this package's kernels.

    The model is read, checked and lowered once: constants are folded, weights packed, quantised patterns fused with what
    follows them. Operators without a function here run by onnx's reference implementation; `report` says which.

    Parameters
    ----------
    path_or_bytes : str, path or bytes
        The model. Its external data is read only from files in its own folder.
    kernel : str, optional
        Name of the kernel for integer products; by default the one `pyint8dot.engine.dispatch.select` chooses now.
    num_threads : int, optional
        How many threads one product uses.
    max_bytes : int
        The most memory that the model's tensors, any one result, or all results alive at a time may take.

    Raises
    ------
    ModelError
        If the model is broken, not supported or too large; the message names the node and tensor.
    KernelError
        If there is no such kernel here.
    TypeError, ValueError
        If `kernel` is not a str, or `num_threads` not an int from 1 to 1024.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> session = InferenceSession("model.onnx")  # doctest: +SKIP
    >>> [output] = session.run(None, {"x": x})  # doctest: +SKIP
    """

    def __init__(
        self,
        path_or_bytes: Source,
        kernel: str | None = None,
        num_threads: int | None = None,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self.kernel = dispatch.select(kernel).name
        count = None if num_threads is None else threads.checked(num_threads)
        graph = Graph(read_model(path_or_bytes, max_bytes))
        self._inputs = graph.inputs
        self._outputs = graph.outputs
        fuse(graph, max_bytes)
        self._max_bytes = max_bytes
        self._program: Program = compile_graph(graph, self.kernel, count, max_bytes)
        self._slots = dict(self._program.outputs)
        self._all = self._wanted(list(self._slots))
        # Slot, name, type and shape of each input of the last feed that was checked; no array has this shape.
        self._seen: list[tuple[int, str, Any, Any]] = [
            (slot, info.name, info.dtype, None) for slot, info in zip(self._program.inputs, self._inputs, strict=True)
        ]
        self._times = [0.0] * len(self._program.steps)
        self._runs = 0

    def __repr__(self) -> str:
        inputs, outputs = ([info.name for info in infos] for infos in (self._inputs, self._outputs))
        return f"InferenceSession(inputs={inputs}, outputs={outputs}, kernel={self.kernel!r})"

    def get_inputs(self) -> list[TensorInfo]:
        """Return name, type and shape of each input; a symbolic dimension is its name."""
        return list(self._inputs)

    def get_outputs(self) -> list[TensorInfo]:
        """Return name, type and shape of each output."""
        return list(self._outputs)

    def run(self, output_names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[np.ndarray]:
        """Run the model once.

        Parameters
        ----------
        output_names : sequence of str or None
            Which outputs to return; None for all, in the model's order.
        feed : mapping of str to array_like
            One array for every input, of exactly its type. Symbolic dimensions may have any size, the same for all
            inputs that use the same name.

        Returns
        -------
        list of ndarray
            One for each name asked for.

        Raises
        ------
        InputError
            If the feed does not fit the inputs, or an output does not exist.
        NodeError
            If a node cannot work on the values it is given.
        ModelError
            If results would be larger than `max_bytes`.
        """
        take, shared = self._all if output_names is None else self._wanted(list(output_names))
        values = self._program.values.copy()
        if not self._fits_as_before(feed, values):
            for slot, array in zip(self._program.inputs, self._check_feed(feed), strict=True):
                values[slot] = array
        times, clock, limit = self._times, time.perf_counter, self._max_bytes
        # Bytes made since the last exact count, nothing taken off for what is freed: never less than what is alive.
        made = 0
        before = clock()
        for index, step in enumerate(self._program.steps):
            try:
                result = step.function(*step.arguments(values))
            except ModelError:
                raise
            except Exception as error:
                given = [values[i] for i in step.inputs]
                raise NodeError(f"{step.node}: {_first_line(error)}; {_describe(step.node.inputs, given)}") from error
            if type(result) is tuple:
                for place, slot in enumerate(step.outputs):
                    values[slot] = array = result[place]
                    made += getattr(array, "nbytes", 0)
            else:
                values[step.outputs[0]] = result
                made += getattr(result, "nbytes", 0)
            if made > limit:
                made = self._count_live(values, step)
            for slot in step.frees:
                values[slot] = None
            now = clock()
            times[index] += now - before
            before = now
        self._runs += 1
        results = list(take(values))
        # What the caller gets is the caller's own: constants, inputs and views of them are copied.
        for place in shared:
            results[place] = results[place].copy()
        return results

    def report(self) -> Report:
        """Return what runs each node, and what it has cost since the session was made or `reset_report` was called.

        Returns
        -------
        Report
            Rows by node; printing it gives a table.
        """
        return Report.of(self._program, self.kernel, self._times, self._runs)

    def reset_report(self) -> None:
        """Forget the times of the runs so far."""
        self._times[:] = [0.0] * len(self._times)
        self._runs = 0

    def _wanted(self, names: Sequence[str]) -> tuple[Take, list[int]]:
        """Return what takes these outputs from all values, and which of them may share memory with what is not the caller's."""
        for name in names:
            if name not in self._slots:
                raise InputError(f"the model has no output {name!r}; it has {_listing(self._slots)}")
        slots = [self._slots[name] for name in names]
        return taking(slots), [place for place, slot in enumerate(slots) if slot in self._program.shared]

    def _count_live(self, values: Sequence[Any], step: Step) -> int:
        """Return the bytes of all results that are alive, or refuse them; views count like arrays of their own."""
        live = sum(getattr(values[slot], "nbytes", 0) for slot in self._program.results)
        if live > self._max_bytes:
            raise ModelError(
                f"{step.node}: intermediate results take {live} bytes, more than max_bytes={self._max_bytes}"
            )
        return live

    def _fits_as_before(self, feed: Mapping[str, Any], values: list[Any]) -> bool:
        """Put the feed into its slots where it is made of plain arrays of the types and shapes that fitted last time."""
        seen = self._seen
        if len(feed) != len(seen):
            return False
        for slot, name, dtype, shape in seen:
            array = feed.get(name)
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return False
            values[slot] = array
        return True

    def _check_feed(self, feed: Mapping[str, Any]) -> list[np.ndarray]:
        unknown = set(feed) - {i.name for i in self._inputs}
        if unknown:
            raise InputError(
                f"the model has no input {_listing(sorted(unknown))}; it has {_listing(i.name for i in self._inputs)}"
            )
        arrays, sizes = [], dict[str, int]()
        for info in self._inputs:
            if info.name not in feed:
                raise InputError(f"the feed lacks input {info.name!r}, {info.type} of shape {info.shape}")
            value = feed[info.name]
            if info.dtype is None:
                arrays.append(value)
                continue
            try:
                array = plain(f"input {info.name!r}", value)
            except (TypeError, ValueError) as error:
                raise InputError(str(error)) from error
            if array.dtype != info.dtype:
                raise InputError(f"input {info.name!r} must be {info.dtype} ({info.type}), got {array.dtype}")
            if info.ranked and array.ndim != len(info.shape):
                raise InputError(f"input {info.name!r} must have shape {info.shape}, got {list(array.shape)}")
            for wanted, got in zip(info.shape, array.shape, strict=False):
                size = wanted if isinstance(wanted, int) else sizes.setdefault(wanted, got) if wanted else got
                if got != size:
                    raise InputError(
                        f"input {info.name!r} must have shape {info.shape}, got {list(array.shape)}"
                        + ("" if isinstance(wanted, int) else f", but {wanted!r} is {size} elsewhere")
                    )
            arrays.append(array)
        # Replaced as a whole, so that other threads never see a mixture; what has no type here has no shape either.
        self._seen = [
            (slot, info.name, info.dtype, None if info.dtype is None else array.shape)
            for slot, info, array in zip(self._program.inputs, self._inputs, arrays, strict=True)
        ]
        return arrays


def _listing(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _describe(names: Sequence[str], values: Sequence[Any]) -> str:
    parts = []
    for name, value in zip(names, values, strict=False):
        if isinstance(value, np.ndarray):
            parts.append(f"{name!r} is {value.dtype} {list(value.shape)}")
        elif name and value is not None:
            parts.append(f"{name!r} is {type(value).__name__}")
    return "inputs: " + (", ".join(parts) or "none")
