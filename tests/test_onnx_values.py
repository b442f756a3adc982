"""What clients of onnxruntime hand over and are handed: values, bindings, callbacks, and the module itself."""

from __future__ import annotations

import importlib.util
import math
import sys
import threading
import types

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_graphs import data, model, node

from pyint8dot import onnx as ours
from pyint8dot.onnx import InputError, ModelError, NodeError, as_onnxruntime, standin

F32 = np.float32
# What a value says of itself.
ASKED = "shape data_type element_type device_name has_value is_tensor is_tensor_sequence is_sparse_tensor tensor_size_in_bytes"


def test_values(theirs):
    x = np.arange(6, dtype=F32).reshape(2, 3)
    for array in (x, x.astype(np.int64), x > 2, x.astype(np.float16)):
        mine, other = (module.OrtValue.ortvalue_from_numpy(array) for module in (ours, theirs))
        for method in ASKED.split():
            assert getattr(mine, method)() == getattr(other, method)(), method
        assert np.shares_memory(mine.numpy(), array)
        assert mine.data_ptr() == array.ctypes.data
        np.testing.assert_array_equal(np.asarray(mine), array)
    value = ours.OrtValue.ortvalue_from_shape_and_type([2, 3], F32)
    value.update_inplace(x)
    np.testing.assert_array_equal(value.numpy(), x)
    for wrong in (
        lambda: value.update_inplace(x[0]),
        lambda: ours.OrtValue.ortvalue_from_numpy([1]),
        lambda: ours.OrtValue.ortvalue_from_numpy(x, "cuda"),
        lambda: ours.OrtValue.ortvalue_from_shape_and_type([-1], F32),
        lambda: ours.OrtValue.ortvalue_from_shape_and_type([1], "no type"),
    ):
        with pytest.raises(InputError):
            wrong()


def test_bound_inputs_and_outputs(theirs, added):
    x, room, other_room = np.ones((2, 3), F32), np.zeros((2, 3), F32), np.zeros((2, 3), F32)
    for module in (ours, theirs):
        session = module.InferenceSession(added)
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y")
        binding.bind_output("z", "cpu", 0, F32, [2, 3], room.ctypes.data)
        session.run_with_iobinding(binding)
        y, z = binding.copy_outputs_to_cpu()
        np.testing.assert_array_equal(y, x + F32([1, 2, 3]))
        np.testing.assert_array_equal(room, -y)
        np.testing.assert_array_equal(z, room)
        assert [v.shape() for v in binding.get_outputs()] == [[2, 3], [2, 3]]
        binding.clear_binding_outputs()
        binding.bind_ortvalue_output("z", module.OrtValue.ortvalue_from_numpy(other_room))
        binding.bind_input("x", "cpu", 0, F32, [2, 3], x.ctypes.data)
        session.run_with_iobinding(binding)
        np.testing.assert_array_equal(other_room, room)
        with pytest.raises(Exception, match="nope"):
            binding.bind_cpu_input("nope", x)
        [value] = session.run_with_ort_values(["z"], {"x": module.OrtValue.ortvalue_from_numpy(x)})
        np.testing.assert_array_equal(value.numpy(), room)
    binding.clear_binding_outputs()
    mine = ours.InferenceSession(added).io_binding()
    for wrong in (
        lambda: mine.bind_input("x", "cpu", 0, F32, [2, 3], 0),
        lambda: mine.bind_input("x", "cuda", 0, F32, [2, 3], x.ctypes.data),
        lambda: mine.bind_input("x", "cpu", 0, object, [2, 3], x.ctypes.data),
        lambda: ours.InferenceSession(added).run_with_iobinding(mine),
    ):
        with pytest.raises(InputError):
            wrong()


def test_outputs_are_written_all_or_none(added):
    """One that does not fit where it is bound leaves the others as they were."""
    session = ours.InferenceSession(added)
    narrow, other, locked = np.full((3, 3), 7, F32), np.full((2, 3), 7, np.float64), np.full((2, 3), 7, F32)
    locked.flags.writeable = False
    for wrong, message in (
        (narrow, r"output 'z' is bound to float32 \[3, 3\], got float32 \[2, 3\]"),
        (other, r"output 'z' is bound to float64 \[2, 3\], got float32 \[2, 3\]"),
        (locked, r"output 'z' is bound to float32 \[2, 3\], but the value is read-only"),
    ):
        room, binding = np.full((2, 3), 7, F32), session.io_binding()
        binding.bind_cpu_input("x", np.ones((2, 3), F32))
        binding.bind_ortvalue_output("y", ours.OrtValue.ortvalue_from_numpy(room))
        binding.bind_ortvalue_output("z", ours.OrtValue.ortvalue_from_numpy(wrong))
        with pytest.raises(InputError, match=message):
            session.run_with_iobinding(binding)
        assert (room == 7).all()
        assert (wrong == 7).all()


def test_what_cannot_be_bound_or_held(added):
    x = np.ones((2, 3), F32)
    locked = x.copy()
    locked.flags.writeable = False
    kept = ours.OrtValue.ortvalue_from_numpy(locked)
    session = ours.InferenceSession(added)
    mine = session.io_binding()
    for wrong, message in (
        (lambda: mine.bind_cpu_input([], x), r"there is no \[\] to bind"),
        (lambda: mine.bind_ortvalue_input("x", x), "'x' must be an OrtValue, got ndarray"),
        (lambda: mine.bind_ortvalue_output("y", x), "'y' must be an OrtValue, got ndarray"),
        (lambda: mine.bind_ortvalue_output("y", ours.OrtValue([x])), "'y' must be bound to an array"),
        (lambda: mine.bind_output("y", "cpu", 0, F32, [2, 3], 2**70), "buffer_ptr must be an address"),
        (lambda: mine.bind_output("y", "cpu", 0, F32, [2**40, 2**40], 4096), "buffer_ptr must be an address"),
        (lambda: mine.bind_output("y", "cpu", 0, None, [2, 3], x.ctypes.data), "element_type and shape must be given"),
        (lambda: mine.bind_output("y", "cpu", 0, F32, ["n"], x.ctypes.data), "a shape must be a sequence of ints"),
        (lambda: mine.bind_output("y", "cpu", 0, F32, [-1], x.ctypes.data), "has a negative dimension"),
        (lambda: session.run_with_ort_values(None, {"x": x}), "'x' must be an OrtValue, got ndarray"),
        (lambda: session.run_with_ort_values(None, None), "the feed must be a mapping"),
        (lambda: ours.OrtValue.ortvalue_from_shape_and_type(5), "a shape must be a sequence of ints, got 5"),
        (lambda: ours.OrtValue.ortvalue_from_shape_and_type([1.5]), "a shape must be a sequence of ints"),
        (lambda: ours.OrtValue.ortvalue_from_shape_and_type([2**40, 2**40]), "there is no array of shape"),
        (lambda: ours.OrtValue(np.zeros(1, "m8[s]")).data_type(), "is not an element type"),
        (lambda: kept.update_inplace(x), "but the value is read-only"),
    ):
        with pytest.raises(InputError, match=message):
            wrong()
    assert ours.OrtValue(np.zeros(1, ">i4")).data_type() == "tensor(int32)"


def test_a_run_can_be_ended(theirs, added):
    for module in (ours, theirs):
        options = module.RunOptions()
        session = module.InferenceSession(added)
        assert len(session.run(None, {"x": np.zeros((1, 3), F32)}, options)) == 2
        options.terminate = True
        with pytest.raises(NodeError if module is ours else Exception, match="terminate"):
            session.run(None, {"x": np.zeros((1, 3), F32)}, options)


def test_a_long_run_can_be_ended_from_another_thread():
    body = helper.make_graph(
        [node("Identity", "c", "c2"), node("Neg", "s", "s2")], "body",
        [helper.make_tensor_value_info(n, k, []) for n, k in (("i", 7), ("c", 9), ("s", 1))],
        [helper.make_tensor_value_info(n, k, []) for n, k in (("c2", 9), ("s2", 1))],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["", "", "x"], ["y"], "the Loop", body=body)
    session = ours.InferenceSession(data(model([loop], {"x": (F32, [])}, {"y": (F32, [])})))
    options = ours.RunOptions()
    threading.Timer(0.2, setattr, (options, "terminate", True)).start()
    with pytest.raises(NodeError, match="terminate"):
        session.run(None, {"x": np.zeros((), F32)}, options)


def test_callbacks(added):
    seen = []
    session = ours.InferenceSession(added)
    session.run_async(["y"], {"x": np.zeros((1, 3), F32)}, lambda *given: seen.append(given), "mine")
    session.run_async(["y"], {}, lambda *given: seen.append(given), None)
    assert seen[0][0][0].shape == (1, 3)
    assert seen[0][1:] == ("mine", "")
    assert "lacks input 'x'" in seen[1][2]


def test_the_stand_in_is_what_clients_import(theirs, added):
    real = sys.modules["onnxruntime"]
    with as_onnxruntime() as module:
        import onnxruntime
        from onnxruntime import InferenceSession, SessionOptions
        from onnxruntime.capi._pybind_state import GraphOptimizationLevel
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, NoSuchFile

        assert onnxruntime is module is not real
        assert importlib.util.find_spec("onnxruntime") is not None
        # Written in Python on top of the rest, and imported from what is installed.
        from onnxruntime.quantization import calibrate

        assert calibrate.onnxruntime is module
        options = SessionOptions()
        options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        session = InferenceSession(added, sess_options=options, providers=onnxruntime.get_available_providers())
        with pytest.raises(InvalidArgument):
            session.run(["nope"], {"x": np.zeros((1, 3), F32)})
        with pytest.raises(NoSuchFile):
            InferenceSession("nowhere.onnx")
        # Clauses that name these catch what onnxruntime raises for models, feeds and nodes alike.
        for kind in (ModelError, InputError, NodeError):
            assert issubclass(kind, Fail)
            assert issubclass(kind, InvalidArgument)
        with as_onnxruntime() as inner:
            assert sys.modules["onnxruntime"] is inner
        assert sys.modules["onnxruntime"] is module
    import onnxruntime

    assert onnxruntime is real
    # Clients compare versions: it is one of onnxruntime's, and none that is newer than what it is held against here.
    assert tuple(map(int, standin.VERSION.split("."))) >= (1, 18)
    own = {name for name, value in vars(module).items() if not isinstance(value, types.ModuleType)}
    assert own - set(dir(real)) <= {"__path__"}


def test_called_plainly_it_stays(theirs):
    real = sys.modules["onnxruntime"]
    installed = as_onnxruntime()
    try:
        import onnxruntime

        assert onnxruntime is installed.module
    finally:
        installed.close()
    assert sys.modules["onnxruntime"] is real


def test_feeds_of_text_of_the_other_byte_order_and_of_lists(added):
    x = np.arange(6, dtype=F32).reshape(2, 3)
    session = ours.InferenceSession(added)
    for value in (x.astype(">f4"), x.tolist(), x.astype(int).tolist(), tuple(map(tuple, x.tolist()))):
        np.testing.assert_array_equal(session.run(["y"], {"x": value})[0], x + F32([1, 2, 3]))
    assert session.run(["y"], {"x": np.zeros((0, 3), F32)})[0].shape == (0, 3)
    small = ours.InferenceSession(data(model([node("Identity", "x", "y")], {"x": (np.int8, ["n"])}, {"y": np.int8})))
    assert small.run(None, {"x": [1, -2]})[0].tolist() == [1, -2]
    for wrong in ([300], [1.5], "a", [None]):
        with pytest.raises(InputError, match="'x' must be"):
            small.run(None, {"x": wrong})
    # A number that is too great for the type is lost, not rounded.
    with pytest.raises(InputError, match="'x' must be float32"):
        session.run(None, {"x": [[1, 2, 1e300]]})
    assert session.run(["y"], {"x": [[1, 2, math.inf]]})[0].tolist() == [[2, 4, math.inf]]
    strings = model([node("Identity", "x", "y")], {"x": (np.dtype(object), ["n"])}, {"y": np.dtype(object)})
    strings.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    strings.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    session = ours.InferenceSession(data(strings))
    for value in (["a", "bc"], np.array(["a", "bc"]), np.array(["a", "bc"], object), np.array([b"a", b"bc"])):
        assert session.run(None, {"x": value})[0].tolist() == ["a", "bc"]
    with pytest.raises(InputError, match="must be"):
        session.run(None, {"x": [1, 2]})
