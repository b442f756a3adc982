"""The Python surface of onnxruntime: the same names, arguments, types and answers, and errors of the same kinds."""

from __future__ import annotations

import contextlib
import enum
import inspect
import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support.onnx_graphs import data, node

from pyint8dot import onnx as ours
from pyint8dot.onnx import InputError, MissingFileError, ModelError

F32 = np.float32

# What clients use of it; the rest is about devices, plugins and formats that are not here.
CLASSES = {
    "InferenceSession": (
        "run run_async run_with_ort_values run_with_iobinding io_binding get_inputs get_outputs get_modelmeta get_providers "
        "get_overridable_initializers get_provider_options get_session_options set_providers enable_fallback disable_fallback "
        "end_profiling get_profiling_start_time_ns"
    ),
    "OrtValue": (
        "ortvalue_from_numpy ortvalue_from_shape_and_type numpy shape data_type element_type device_name data_ptr has_value "
        "is_tensor is_tensor_sequence is_sparse_tensor tensor_size_in_bytes update_inplace"
    ),
    "IOBinding": (
        "bind_cpu_input bind_input bind_output bind_ortvalue_input bind_ortvalue_output get_outputs copy_outputs_to_cpu "
        "clear_binding_inputs clear_binding_outputs synchronize_inputs synchronize_outputs"
    ),
    "SessionOptions": (
        "add_session_config_entry get_session_config_entry add_free_dimension_override_by_name add_initializer "
        "add_free_dimension_override_by_denotation add_external_initializers has_providers register_custom_ops_library"
    ),
    "RunOptions": "add_run_config_entry get_run_config_entry add_active_adapter",
}
FUNCTIONS = (
    "get_available_providers get_all_providers get_device set_default_logger_severity set_default_logger_verbosity "
    "enable_telemetry_events disable_telemetry_events"
).split()


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("name", CLASSES)
def test_methods_take_the_same_arguments(theirs, name):
    mine, other = getattr(ours, name), getattr(theirs, name)
    for method in CLASSES[name].split():
        assert callable(getattr(mine, method)), method
        with contextlib.suppress(ValueError):  # theirs is native, and has no signature
            taken, wanted = parameters(getattr(mine, method)), parameters(getattr(other, method))
            # What newer versions add at the end is about devices.
            assert taken == wanted[: len(taken)], method
            assert set(wanted[len(taken) :]) <= {"memory_info"}, method
    if name in ("SessionOptions", "RunOptions"):
        for attribute in (a for a in dir(other()) if not a.startswith("_") and not callable(getattr(other(), a))):
            theirs_, mine_ = getattr(other(), attribute), getattr(mine(), attribute)
            assert getattr(mine_, "name", mine_) == getattr(theirs_, "name", theirs_), attribute


def test_the_session_takes_the_same_arguments_first(theirs):
    wanted = parameters(theirs.InferenceSession.__init__)
    assert wanted[-1] == "kwargs"
    mine = inspect.signature(ours.InferenceSession.__init__).parameters
    assert [n for n in mine if n != "self" and mine[n].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD] == wanted[:-1]
    assert mine["kwargs"].kind is inspect.Parameter.VAR_KEYWORD


def test_functions_and_enumerations(theirs):
    for name in FUNCTIONS:
        assert callable(getattr(ours, name))
        assert callable(getattr(theirs, name))
    for name in ("GraphOptimizationLevel", "ExecutionMode", "ExecutionOrder"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert issubclass(mine, enum.IntEnum)
        assert {m.name: m.value for m in mine} == {k: int(v) for k, v in other.__members__.items()}
    assert ours.get_device() == theirs.get_device() == "CPU"
    assert set(ours.get_available_providers()) <= set(theirs.get_available_providers())
    ours.disable_telemetry_events()
    ours.set_default_logger_severity(3)
    for module in (ours, theirs):
        for value, error in ((9, RuntimeError), ("a", TypeError)):
            with pytest.raises(error):
                module.set_default_logger_severity(value)


def test_a_model_describes_itself_alike(theirs, added):
    mine, other = (module.InferenceSession(added) for module in (ours, theirs))
    for method in ("get_inputs", "get_outputs", "get_overridable_initializers"):
        seen = [[(v.name, v.type, v.shape) for v in getattr(s, method)()] for s in (mine, other)]
        assert seen[0] == seen[1]
        assert seen[0]
    for attribute in (a for a in dir(other.get_modelmeta()) if not a.startswith("_")):
        assert getattr(mine.get_modelmeta(), attribute) == getattr(other.get_modelmeta(), attribute), attribute
    assert mine.get_providers() == other.get_providers()
    assert mine.get_provider_options() == other.get_provider_options()
    assert mine.get_profiling_start_time_ns() == other.get_profiling_start_time_ns() == 0


def test_types_have_the_same_names(theirs):
    tensor, sequence = helper.make_tensor_type_proto, helper.make_sequence_type_proto
    kinds = [tensor(kind, [2, None, "n"]) for kind in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16)]
    kinds += [
        sequence(tensor(1, None)),
        helper.make_optional_type_proto(tensor(7, [1])),
        tensor(1, []),
        tensor(1, None),
    ]
    kinds += [helper.make_optional_type_proto(sequence(tensor(8, None)))]
    for kind in kinds:
        values = [helper.make_value_info(name, kind) for name in "xy"]
        graph = helper.make_graph([node("Identity", "x", "y")], "one", values[:1], values[1:])
        whole = data(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]))
        mine, other = (module.InferenceSession(whole).get_inputs()[0] for module in (ours, theirs))
        assert (mine.type, mine.shape) == (other.type, other.shape)


@pytest.mark.parametrize(
    "call",
    [
        lambda s, x: s.run(None, {"x": x}),
        lambda s, x: s.run([], {"x": x}),
        lambda s, x: s.run(["z", "y", "z"], {"x": x}),
        lambda s, x: s.run(["z"], {"x": x.tolist()}),
        lambda s, x: s.run(None, {"x": x, "w": F32([5, 6, 7])}),
        lambda s, x: s.run(None, {"x": np.asfortranarray(x)}),
    ],
)
def test_runs_give_the_same(theirs, added, call):
    x = np.arange(6, dtype=F32).reshape(2, 3)
    mine, other = (call(module.InferenceSession(added), x) for module in (ours, theirs))
    assert [m.dtype for m in mine] == [o.dtype for o in other]
    for m, o in zip(mine, other, strict=True):
        np.testing.assert_array_equal(m, o)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s, x: s.run(["nope"], {"x": x}), InputError),
        (lambda s, x: s.run("y", {"x": x}), InputError),
        (lambda s, x: s.run(None, {}), InputError),
        (lambda s, x: s.run(None, {"x": x, "z": x}), InputError),
        (lambda s, x: s.run(None, {"x": None}), InputError),
        (lambda s, x: s.run(None, {"x": [[1, 2], [3]]}), InputError),
        (lambda s, x: s.run(None, {"x": x[0]}), InputError),
        (lambda s, x: s.run(None, {"x": x.astype(np.float64)}), InputError),
        (lambda s, x: s.run(None, x), InputError),
        (lambda s, x: s.run(None, {"x": {}}), InputError),
        (lambda s, x: s.run(None, {"x": x}, 5), TypeError),
    ],
)
def test_runs_that_cannot_be(theirs, added, call, error):
    x = np.zeros((2, 3), F32)
    for module, kind in ((ours, error), (theirs, Exception)):
        session = module.InferenceSession(added)
        with pytest.raises(kind):
            call(session, x)
        assert session.run(None, {"x": x})[0].shape == (2, 3)


def test_overridable_initialisers(theirs, added):
    x, w = np.ones((2, 3), F32), F32([5, 6, 7])
    session = ours.InferenceSession(added)
    for _ in range(2):
        np.testing.assert_array_equal(session.run(["y"], {"x": x, "w": w})[0], x + w)
        np.testing.assert_array_equal(session.run(["y"], {"x": x})[0], x + F32([1, 2, 3]))
    with pytest.raises(InputError, match="'w' must have shape"):
        session.run(None, {"x": x, "w": w[:2]})
    # Before ir_version 4 every initialiser was an input, and none of them could be replaced.
    old = onnx.ModelProto.FromString(added)
    old.ir_version = 3
    assert not ours.InferenceSession(data(old)).get_overridable_initializers()


def test_options_that_mean_something(added, tmp_path):
    options = ours.SessionOptions()
    options.intra_op_num_threads = 2
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    options.add_session_config_entry("pyint8dot.kernel", "portable")
    options.add_session_config_entry("pyint8dot.max_bytes", "4096")
    options.add_free_dimension_override_by_name("n", 2)
    options.add_initializer("w", ours.OrtValue.ortvalue_from_numpy(F32([4, 4, 4])))
    session = ours.InferenceSession(added, options)
    assert session.kernel == "portable"
    assert session.get_inputs()[0].shape == [2, 3]
    np.testing.assert_array_equal(session.run(["y"], {"x": np.zeros((2, 3), F32)})[0], np.full((2, 3), 4, F32))
    with pytest.raises(InputError, match=r"shape \[2, 3\], got \[1, 3\]"):
        session.run(None, {"x": np.zeros((1, 3), F32)})
    with pytest.raises(ModelError, match="max_bytes=7"):
        ours.InferenceSession(added, options, max_bytes=7)
    events = json.loads(Path(session.end_profiling()).read_text())
    assert [e["args"]["op_name"] for e in events] == ["Add", "Neg"]
    assert 0 < session.get_profiling_start_time_ns() < time.time_ns()
    options.add_session_config_entry("pyint8dot.max_bytes", "many")
    with pytest.raises(ValueError, match="'many'"):
        ours.InferenceSession(added, options)
    options = ours.SessionOptions()
    options.add_initializer("w", np.zeros(4, F32))
    with pytest.raises(ModelError, match=r"initialiser 'w'.*\[3\], got float32 \[4\]"):
        ours.InferenceSession(added, options)


def test_options_that_cannot_be(theirs, added):
    for module in (ours, theirs):
        options = module.SessionOptions()
        for name, value in (("intra_op_num_threads", "a"), ("graph_optimization_level", 99), ("logid", 3)):
            with pytest.raises(TypeError):
                setattr(options, name, value)
        with pytest.raises(AttributeError):
            options.nonsense = 1
        with pytest.raises(RuntimeError):
            options.get_session_config_entry("nope")
        for wrong in (5, "portable"):
            with pytest.raises(TypeError):
                module.InferenceSession(added, wrong)
        options.log_severity_level = 3
        options.graph_optimization_level = module.GraphOptimizationLevel.ORT_DISABLE_ALL
        module.InferenceSession(added, options, disabled_optimizers=["ConstantFolding"], enable_fallback=0)
    with pytest.raises(ValueError, match="no file format"):
        ours.SessionOptions().optimized_model_filepath = "x.onnx"
    with pytest.raises(NotImplementedError, match="custom operators"):
        ours.SessionOptions().register_custom_ops_library("x.so")
    with pytest.raises(TypeError, match="no argument 'foo'"):
        ours.InferenceSession(added, foo=1)


def test_providers(theirs, added):
    for module in (ours, theirs):
        session = module.InferenceSession(added, providers=["CPUExecutionProvider"])
        assert session.get_providers() == ["CPUExecutionProvider"]
        with pytest.warns(UserWarning, match="'CUDAExecutionProvider' is not in available provider names"):
            session = module.InferenceSession(added, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
        assert session.get_providers() == ["CPUExecutionProvider"]
    ours.InferenceSession(added, providers=[("CPUExecutionProvider", {"arena": 1})])
    # Clients are found to give a single name or a set; onnxruntime says so and runs the model on the processor.
    several = ["CPUExecutionProvider"], [{}, {}]
    given = [(w, None) for w in ([5], "CPUExecutionProvider", {"CPUExecutionProvider"}, [("CPUExecutionProvider",)])]
    for wrong, settings in (*given, several, (["CPUExecutionProvider"], 5)):
        for module in (ours, theirs):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                session = module.InferenceSession(added, providers=wrong, provider_options=settings)
            assert session.get_providers() == ["CPUExecutionProvider"]
        with pytest.warns(UserWarning, match=r"'provider.* runs on 'CPUExecutionProvider'"):
            ours.InferenceSession(added, providers=wrong, provider_options=settings)
        with pytest.raises(ValueError, match="'provider"):
            ours.InferenceSession(added, providers=wrong, provider_options=settings, enable_fallback=0)
        with pytest.raises(ValueError, match="'provider"):
            ours.InferenceSession(added).set_providers(wrong, settings)


def test_files_that_are_not_there(tmp_path, added):
    with pytest.raises(MissingFileError, match="no model file") as caught:
        ours.InferenceSession(str(tmp_path / "nope.onnx"))
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, ModelError)


def test_keywords_come_before_options(added):
    options = ours.SessionOptions()
    options.add_session_config_entry("pyint8dot.max_bytes", "1")
    session = ours.InferenceSession(added, options, kernel="portable", num_threads=1, max_bytes=1 << 20)
    assert session.kernel == "portable"


@pytest.mark.parametrize("names", [[["y"]], [{}], [5], np.array(["y", "w"]), {"y", "w"}, "y", 5])
def test_names_of_outputs_that_cannot_be(added, names):
    session = ours.InferenceSession(added)
    with pytest.raises(InputError, match=r"the model has no output|output_names must be a list"):
        session.run(names, {"x": np.zeros((1, 3), F32)})
    assert len(session.run([], {"x": np.zeros((1, 3), F32)})) == 2


@pytest.mark.parametrize("wrong", [-1, True, 1e9, math.nan, "4096"])
def test_the_bound_on_memory_is_a_number_of_bytes(added, wrong):
    """NaN would be no bound at all: nothing is more than that."""
    with pytest.raises((TypeError, ValueError), match=r"^max_bytes must "):
        ours.InferenceSession(added, max_bytes=wrong)
