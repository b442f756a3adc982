"""The session: an ONNX model lowered once, and run as a list of numpy and kernel calls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pyint8dot.engine import kernels, threads
from pyint8dot.onnx.bounds import DEFAULT_MAX_BYTES
from pyint8dot.onnx.compile import Program, compile_graph
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
        Name of the kernel for integer products; by default the one `pyint8dot.engine.kernels.select` chooses now.
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
        self.kernel = kernels.select(kernel).name
        count = None if num_threads is None else threads.checked(num_threads)
        graph = Graph(read_model(path_or_bytes, max_bytes))
        self._inputs = graph.inputs
        self._outputs = graph.outputs
        fuse(graph, max_bytes)
        self._max_bytes = max_bytes
        self._program: Program = compile_graph(graph, self.kernel, count, max_bytes)
        self._slots = dict(self._program.outputs)
        self._times = [0.0] * len(self._program.steps)
        self._runs = 0

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
        names = list(self._slots) if output_names is None else list(output_names)
        for name in names:
            if name not in self._slots:
                raise InputError(f"the model has no output {name!r}; it has {_listing(self._slots)}")
        arrays = self._check_feed(feed)
        values = self._program.values.copy()
        for slot, array in zip(self._program.inputs, arrays, strict=True):
            values[slot] = array
        times, clock = self._times, time.perf_counter
        # Views count like arrays of their own: the sum is never too small.
        live = 0
        before = clock()
        for index, step in enumerate(self._program.steps):
            try:
                result = step.function(*[values[i] for i in step.inputs])
            except ModelError:
                raise
            except Exception as error:
                given = [values[i] for i in step.inputs]
                raise NodeError(f"{step.node}: {_first_line(error)}; {_describe(step.node.inputs, given)}") from error
            if step.single:
                values[step.outputs[0]] = result
                live += getattr(result, "nbytes", 0)
            else:
                for slot, array in zip(step.outputs, result, strict=False):
                    values[slot] = array
                    live += getattr(array, "nbytes", 0)
            if live > self._max_bytes:
                raise ModelError(
                    f"{step.node}: intermediate results take {live} bytes, more than max_bytes={self._max_bytes}"
                )
            for slot in step.frees:
                live -= getattr(values[slot], "nbytes", 0)
                values[slot] = None
            now = clock()
            times[index] += now - before
            before = now
        self._runs += 1
        # What the caller gets is the caller's own: constants, inputs and views of them are copied.
        shared = self._program.shared
        return [
            values[self._slots[name]].copy() if self._slots[name] in shared else values[self._slots[name]]
            for name in names
        ]

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
            array = np.asarray(value)
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
        elif name:
            parts.append(f"{name!r} is {type(value).__name__}")
    return "inputs: " + (", ".join(parts) or "none")
