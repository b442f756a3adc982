"""The session: an ONNX model lowered once, and run as a list of numpy and kernel calls."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyint8dot.engine import dispatch, threads
from pyint8dot.errors import Int8DotError
from pyint8dot.onnx.compile import compile_graph
from pyint8dot.onnx.errors import InputError, ModelError
from pyint8dot.onnx.executor import Executor, Road
from pyint8dot.onnx.feed import checked, listing, mapping
from pyint8dot.onnx.graph import Graph, TensorInfo, tensor_info
from pyint8dot.onnx.load import Overrides, Source, overridable, read_model
from pyint8dot.onnx.options import (
    EXTERNAL_FOLDER,
    PROVIDER,
    RunOptions,
    SessionOptions,
    entry,
    settings_of,
)
from pyint8dot.onnx.program import Program, Room, Step, Take, copied, taking
from pyint8dot.onnx.providers import provider_settings
from pyint8dot.onnx.report import Report
from pyint8dot.onnx.rewrite.patterns import fuse
from pyint8dot.onnx.values import IOBinding, ModelMetadata, OrtValue, held

# What onnxruntime takes beside its documented arguments; none of it changes a result.
_IGNORED = {"disabled_optimizers", "enable_fallback", "read_config_from_model"}


class InferenceSession:
    """Run an ONNX model, its int8 products on this package's kernels.

    The model is read, checked and lowered once: constants are folded, weights packed, quantised patterns fused with what
    follows them. Operators without a function here run by onnx's reference implementation; `report` says which.

    Arguments and methods are onnxruntime's. What changes no result here, such as the level of optimisation, is taken and
    has no effect; what cannot be done is refused.

    Parameters
    ----------
    path_or_bytes : str, path or bytes
        The model. Its external data is read only from files in its own folder.
    sess_options : SessionOptions, optional
        Threads, sizes of symbolic dimensions, initialisers that replace those of the model, profiling.
    providers : sequence of str or (str, dict), optional
        What onnxruntime would run the model on. Here it is always the processor; other names cause a warning.
    provider_options : sequence of dict, optional
        One for each provider.
    kernel : str, optional
        Name of the kernel for integer products; by default the one `pyint8dot.engine.dispatch.select` chooses now.
    num_threads : int, optional
        How many threads one product uses; before `intra_op_num_threads` of the options.
    max_bytes : int, optional
        The most that the model's tensors, any one result, or all results alive at a time may take; 4 GiB by default.
    **kwargs
        What onnxruntime takes beside that: `disabled_optimizers`, `enable_fallback`, `read_config_from_model`.

    Raises
    ------
    ModelError
        If the model is broken, not supported or too large; the message names the node and tensor. If there is no such
        file it is a FileNotFoundError as well.
    KernelError
        If there is no such kernel here.
    TypeError, ValueError
        If an argument is not of its kind, or `num_threads` not an int from 1 to 1024.

    Examples
    --------
    >>> session = InferenceSession("model.onnx")  # doctest: +SKIP
    >>> [output] = session.run(None, {"x": x})  # doctest: +SKIP
    """

    def __init__(
        self,
        path_or_bytes: Source,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Any] | None = None,
        *,
        kernel: str | None = None,
        num_threads: int | None = None,
        max_bytes: int | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.keys() - _IGNORED:
            raise TypeError(f"InferenceSession has no argument {listing(sorted(kwargs.keys() - _IGNORED))}")
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise TypeError(f"sess_options must be SessionOptions, got {type(sess_options).__name__}")
        # A copy, as in onnxruntime: clients make several sessions with one object that they change in between.
        self._options = SessionOptions() if sess_options is None else copy.copy(sess_options)
        fallback = int(kwargs.get("enable_fallback", 1)) == 1
        self._provider_options = provider_settings(providers, provider_options, fallback=fallback)
        kernel, count, self._max_bytes = settings_of(self._options, kernel, num_threads, max_bytes)
        self._room = Room(self._max_bytes)
        self.kernel = dispatch.select(kernel).name
        self._count = None if count is None else threads.checked(count)
        self._start = time.time_ns()
        overrides = Overrides(
            self._options.symbols,
            self._options.denotations,
            self._options.initializers,
            entry(self._options, EXTERNAL_FOLDER),
        )
        # Not public in onnxruntime either, but clients read it to find the model's folder.
        self._model_path = os.fspath(path_or_bytes) if isinstance(path_or_bytes, str | os.PathLike) else None
        model = read_model(path_or_bytes, self._max_bytes, overrides)
        self._metadata = ModelMetadata(model)
        self._overridable = [tensor_info(value) for value in overridable(model)]
        try:
            self._lower(Graph(model))
        except Int8DotError:
            raise
        except Exception as error:
            raise ModelError(f"the model cannot be lowered: {type(error).__name__}: {error}") from error
        # Initialisers that a feed may replace are constants until one does: then the model is lowered again without them.
        self._model = model if self._overridable else None
        self._variants: dict[frozenset[str], InferenceSession] = {}

    def _lower(self, graph: Graph) -> None:
        self._inputs = graph.inputs
        self._outputs = graph.outputs
        self._program = self._compile(graph)
        self._slots = dict(self._program.outputs)
        self._all = self._taken(list(self._slots))
        self._executor = Executor(self._program, self._count)
        # Slot, name, type and shape of each input of the last feed that was checked, and how the program runs for these; no array
        # has the shape that stands here at first.
        none: Sequence[Any] = [None] * len(self._inputs)
        self._seen: tuple[list[tuple[int, str, Any, Any]], Road | None] = self._fitting(none), None
        self._runs = 0

    def __repr__(self) -> str:
        inputs, outputs = ([info.name for info in infos] for infos in (self._inputs, self._outputs))
        return f"InferenceSession(inputs={inputs}, outputs={outputs}, kernel={self.kernel!r})"

    def _compile(self, graph: Graph) -> Program:
        fuse(graph, self._max_bytes)
        return compile_graph(graph, self.kernel, self._count, self._max_bytes, self._compile)

    def get_inputs(self) -> list[TensorInfo]:
        """Return name, type and shape of each input; a symbolic dimension is its name."""
        return list(self._inputs)

    def get_outputs(self) -> list[TensorInfo]:
        """Return name, type and shape of each output."""
        return list(self._outputs)

    def get_overridable_initializers(self) -> list[TensorInfo]:
        """Return the initialisers that are inputs as well: a feed may name them, and need not."""
        return list(self._overridable)

    def get_modelmeta(self) -> ModelMetadata:
        """Return what the model says of itself."""
        return self._metadata

    def get_session_options(self) -> SessionOptions:
        """Return the options the session was made with."""
        return self._options

    def get_providers(self) -> list[str]:
        """Return what runs the model: the processor."""
        return [PROVIDER]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Return the options that were given for it."""
        return {name: dict(options) for name, options in self._provider_options.items()}

    def set_providers(
        self, providers: Sequence[Any] | None = None, provider_options: Sequence[Any] | None = None
    ) -> None:
        """Check names and options; the model runs on the processor all the same."""
        self._provider_options = provider_settings(providers, provider_options)

    def enable_fallback(self) -> None:
        """Do nothing: there is nothing to fall back from."""

    def disable_fallback(self) -> None:
        """Do nothing: there is nothing to fall back from."""

    def run(
        self, output_names: Iterable[str] | None, input_feed: Mapping[str, Any], run_options: RunOptions | None = None
    ) -> list[Any]:
        """Run the model once.

        Parameters
        ----------
        output_names : iterable of str or None
            Which outputs to return; None or none for all, in the model's order.
        input_feed : mapping of str to array_like
            One array for every input, of exactly its type; lists and numbers of Python's own are converted to it, and so
            are arrays of the other byte order. Symbolic dimensions may have any size. The name of an overridable
            initialiser may stand here as well.
        run_options : RunOptions, optional
            Its `terminate` ends the run.

        Returns
        -------
        list of ndarray
            One for each name asked for; a list or another value where the output is no tensor.

        Raises
        ------
        InputError
            If the feed does not fit the inputs, or an output does not exist.
        NodeError
            If a node cannot work on the values it is given, or the run is ended.
        ModelError
            If results would be larger than `max_bytes`.
        """
        take, places = self._all if output_names is None else self._wanted(output_names)
        values = self._program.values.copy()
        road = self._fits_as_before(input_feed, values)
        if road is None:
            if self._overridable and isinstance(input_feed, Mapping):
                names = frozenset(info.name for info in self._overridable if info.name in input_feed)
                if names:
                    return self._without(names).run(output_names, input_feed, run_options)
            arrays, road = self._check_feed(input_feed)
            for slot, array in zip(self._program.inputs, arrays, strict=True):
                values[slot] = array
        room = self._room if run_options is None else Room(self._max_bytes, _checked_options(run_options))
        self._executor.run(values, room, road)
        self._runs += 1
        results = list(take(values))
        # What the caller gets is the caller's own: constants, inputs, and views of them or of one another are copied.
        for place in places:
            results[place] = copied(results[place])
        return results

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[Any, Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Run the model once and hand the results to a function, which is called before this one returns."""
        results, words = [], ""
        try:
            results = self.run(output_names, input_feed, run_options)
        except Exception as error:  # noqa: BLE001 - the caller is told by the callback, as by onnxruntime
            words = str(error)
        callback(results, user_data, words)

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """Run the model once on values, and return values; else as `run`."""
        feed = {name: held(name, value) for name, value in mapping(input_dict_ort_values).items()}
        return [OrtValue(result) for result in self.run(output_names, feed, run_options)]

    def io_binding(self) -> IOBinding:
        """Return inputs and outputs to be bound for `run_with_iobinding`."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Run the model once on what is bound; `iobinding` has the results afterwards."""
        iobinding.run(self, run_options)

    @property
    def steps(self) -> list[Step]:
        """What a run calls, in its order; functions may be replaced by others that do the same.

        From the first look at them on every run calls them one by one: see `pyint8dot.onnx.executor`.
        """
        self._executor.on = False
        return self._program.steps

    def report(self) -> Report:
        """Return what runs each node, and what it has cost since the session was made or `reset_report` was called.

        Returns
        -------
        Report
            Rows by node; printing it gives a table.
        """
        return Report.of(self._program, self.kernel, self._runs, self._executor.seconds())

    def reset_report(self) -> None:
        """Forget the times of the runs so far."""
        self._executor.reset()
        self._runs = 0

    def get_profiling_start_time_ns(self) -> int:
        """Return when the session was made, in nanoseconds since 1970, if `enable_profiling` was set, else 0."""
        return self._start if self._options.enable_profiling else 0

    def end_profiling(self) -> str:
        """Write the mean time of each node, one after the other, in the format of Chrome's tracing.

        Returns
        -------
        str
            The file's name, which `profile_file_prefix` of the options begins; empty where `enable_profiling` was not set.
        """
        if not self._options.enable_profiling:
            return ""
        events, at = [], 0.0
        for row in self.report().rows:
            arguments = {"op_name": row.op, "provider": PROVIDER, "by": row.by, "covers": list(row.covers)}
            duration = 1e6 * row.seconds
            head = {"cat": "Node", "ph": "X", "pid": 0, "tid": 0, "name": f"{row.node}_kernel_time"}
            events.append({**head, "ts": round(at), "dur": round(duration), "args": arguments})
            at += duration
        path = Path(f"{self._options.profile_file_prefix}{time.strftime('%Y-%m-%d_%H-%M-%S')}.json")
        path.write_text(json.dumps(events), encoding="utf-8")
        return str(path)

    def _without(self, names: frozenset[str]) -> InferenceSession:
        """Return a session of the same model in which some initialisers are inputs."""
        found = self._variants.get(names)
        if found is None and self._model is not None:
            found = object.__new__(type(self))
            found.__dict__.update(self.__dict__, _overridable=[])
            graph = Graph(self._model)
            for info in self._overridable:
                if info.name in names:
                    del graph.constants[info.name]
                    graph.inputs.append(info)
            found._lower(graph)
            self._variants[names] = found
        assert found is not None  # noqa: S101 - a session with such initialisers keeps its model
        return found

    def _wanted(self, names: Iterable[str]) -> tuple[Take, list[int]]:
        # An array without dimensions has what an iterable has, and cannot be iterated.
        alone = isinstance(names, (str, Mapping)) or getattr(names, "shape", None) == ()
        if alone or not isinstance(names, Iterable):
            raise InputError(f"output_names must be a list of names or None, got {type(names).__name__}")
        given: list[Any] = [*names]
        for name in given:
            if not isinstance(name, str) or name not in self._slots:
                raise InputError(f"the model has no output {name!r}; it has {listing(self._slots)}")
        return self._taken(given) if given else self._all

    def _taken(self, names: Sequence[str]) -> tuple[Take, list[int]]:
        """Return what takes these outputs from all values, and which of them may share memory with what is not the caller's."""
        slots = [self._slots[name] for name in names]
        taken, shared = set(self._program.pinned), []
        for place, slot in enumerate(slots):
            memory = self._program.memory[slot]
            if memory in taken:
                shared.append(place)
            taken.add(memory)
        return taking(slots), shared

    def _fits_as_before(self, feed: Mapping[str, Any], values: list[Any]) -> Road | None:
        """Put the feed into its slots where it is made of plain arrays of the types and shapes that fitted last time.

        Returns how the program runs for these, None for any other.
        """
        seen, road = self._seen
        if type(feed) is not dict or len(feed) != len(seen):
            return None
        for slot, name, dtype, shape in seen:
            array = feed.get(name)
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return None
            values[slot] = array
        return road

    def _check_feed(self, feed: Mapping[str, Any]) -> tuple[list[Any], Road | None]:
        arrays = checked(feed, self._inputs)
        # What has no type here has no shape either; of objects the next array may hold others, which are no text.
        loose = [info.dtype is None or info.dtype.kind == "O" for info in self._inputs]
        shapes = [None if free else array.shape for free, array in zip(loose, arrays, strict=True)]
        road = None if None in shapes else self._executor.road(tuple(shapes))
        # Replaced as a whole, so that other threads never see a mixture.
        self._seen = self._fitting(shapes), road
        return arrays, road

    def _fitting(self, shapes: Sequence[Any]) -> list[tuple[int, str, Any, Any]]:
        return [
            (slot, info.name, info.dtype, shape)
            for slot, info, shape in zip(self._program.inputs, self._inputs, shapes, strict=True)
        ]


def _checked_options(options: RunOptions) -> RunOptions:
    if not isinstance(options, RunOptions):
        raise TypeError(f"run_options must be RunOptions, got {type(options).__name__}")
    return options
