"""How clients were found to use onnxruntime: what they hand over, what they catch and what they keep must be as there."""

from __future__ import annotations

import copy
import gc
import importlib.metadata
import importlib.util
import pickle
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_graphs import data, model, node

from pyint8dot import onnx as ours
from pyint8dot.onnx import InputError, ModelError, as_onnxruntime, standin

F32, TEXT = np.float32, np.dtype(object)
ML = "ai.onnx.ml"


def identity(kind, shape=("n",)):
    made = model([node("Identity", "x", "y")], {"x": (F32, list(shape))}, {"y": F32})
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = kind
    return data(made)


@pytest.mark.parametrize(
    "names", [{"y"}, {"y": 0}.keys(), ("y",), np.array(["y", "z"]), lambda: (name for name in ["z", "y"])]
)
def test_any_collection_of_names_of_outputs(theirs, added, names):
    x = np.ones((2, 3), F32)
    made = names if callable(names) else lambda: names
    results = [list(module.InferenceSession(added).run(list(made()), {"x": x})) for module in (ours, theirs)]
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(ours.InferenceSession(added).run(made(), {"x": x}), results[0])


@pytest.mark.parametrize("wrong", ["y", {"y": 1}, [0], [None], [["y"]], 5, np.array("y")])
def test_names_of_outputs_that_are_none(added, wrong):
    with pytest.raises(InputError):
        ours.InferenceSession(added).run(wrong, {"x": np.ones((2, 3), F32)})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (TensorProto.UINT8, [1, 255]),
        (TensorProto.INT64, [1.0, 2.0]),
        (TensorProto.INT32, [3]),
        (TensorProto.BOOL, [1, 0, 1]),
        (TensorProto.FLOAT16, [1.5]),
    ],
)
def test_lists_of_numbers_that_fit(theirs, kind, value):
    mine, other = (module.InferenceSession(identity(kind)).run(None, {"x": value})[0] for module in (ours, theirs))
    assert mine.dtype == other.dtype
    assert mine.tolist() == other.tolist() == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (TensorProto.UINT8, [256]),
        (TensorProto.UINT8, [-1]),
        (TensorProto.INT64, [1.5]),
        (TensorProto.INT64, [np.nan]),
        (TensorProto.BOOL, [2]),
    ],
)
def test_lists_of_numbers_that_do_not_fit(kind, value):
    with pytest.raises(InputError, match="'x' must be"):
        ours.InferenceSession(identity(kind)).run(None, {"x": value})


def test_an_array_of_one_number_for_a_scalar(theirs):
    """Speech models take the sampling rate as a scalar; clients give it as [16000]."""
    for module in (ours, theirs):
        [y] = module.InferenceSession(identity(TensorProto.INT64, [])).run(None, {"x": np.array([16000])})
        assert y.item() == 16000
    with pytest.raises(InputError, match="shape"):
        ours.InferenceSession(identity(TensorProto.INT64, [])).run(None, {"x": np.array([16000, 8000])})


def test_objects_become_text(theirs):
    for module in (ours, theirs):
        session = module.InferenceSession(identity(TensorProto.STRING))
        for values in (["a", "b", "c"], ["a", 1, None], [2.5, "a", "b"]):
            [y] = session.run(None, {"x": np.array(values, object)})
            assert y.tolist() == [str(value) for value in values]


class Unspeakable:
    def __str__(self):
        raise RuntimeError("no")


def test_objects_that_do_not_become_text():
    session = ours.InferenceSession(identity(TensorProto.STRING))
    with pytest.raises(InputError, match="'x' must be"):
        session.run(None, {"x": np.array([Unspeakable()], object)})


def test_sequences_hold_what_they_say(theirs):
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))
    graph = helper.make_graph(
        [helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)], "joined",
        [helper.make_value_info("x", kind)], [helper.make_tensor_value_info("y", 1, None)],
    )  # fmt: skip
    whole = data(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]))
    for module in (ours, theirs):
        session = module.InferenceSession(whole)
        assert session.run(None, {"x": [F32([1]), F32([2])]})[0].tolist() == [1, 2]
        with pytest.raises(InputError if module is ours else Exception, match=r"seq|Seq"):
            session.run(None, {"x": [np.array([1])]})


def test_results_of_a_binding_are_kept(theirs, added):
    """What is copied out of a bound buffer must outlive the next run that writes into the buffer."""
    for module in (ours, theirs):
        session = module.InferenceSession(added)
        binding, room = session.io_binding(), module.OrtValue.ortvalue_from_shape_and_type([2, 3], F32)
        binding.bind_ortvalue_output("z", room)
        kept = []
        for i in range(4):
            binding.bind_cpu_input("x", np.full((2, 3), i, F32))
            session.run_with_iobinding(binding)
            kept += binding.copy_outputs_to_cpu()
            np.testing.assert_array_equal(room.numpy(), kept[-1])
        for i, z in enumerate(kept):
            np.testing.assert_array_equal(z, -(i + np.broadcast_to(F32([1, 2, 3]), (2, 3))))
        with pytest.raises(ValueError, match="element_type"):
            binding.bind_output("z", element_type=F32, buffer_ptr=64)


def test_values_are_exchanged(theirs):
    x = np.arange(6, dtype=F32).reshape(2, 3)
    for module in (ours, theirs):
        value = module.OrtValue.ortvalue_from_numpy(np.zeros((2, 3), F32))
        value.update_inplace(module.OrtValue.ortvalue_from_numpy(x))
        np.testing.assert_array_equal(value.numpy(), x)
        value.update_inplace(2 * x.reshape(6))
        np.testing.assert_array_equal(np.from_dlpack(value), 2 * x)
        assert module.OrtValue.from_dlpack(x).data_ptr() == x.ctypes.data
        other = module.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros(4, np.uint16), TensorProto.BFLOAT16)
        assert (other.data_type(), other.shape(), other.element_type()) == ("tensor(bfloat16)", [4], 16)
        with pytest.raises(TypeError):
            value.update_inplace(x.tolist())
    with pytest.raises(InputError, match="bytes"):
        ours.OrtValue.ortvalue_from_numpy_with_onnx_type(x, TensorProto.BFLOAT16)
    assert ours.OrtValue.ortvalue_from_numpy(x.astype(">f4")).data_type() == "tensor(float)"


def test_what_a_model_does_not_say(theirs):
    unnamed = model([node("NonZero", "x", "y")], {"x": (F32, ["unk__7", 3])}, {"y": np.int64})
    unnamed.graph.output[0].type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
    unnamed.graph.output[0].type.tensor_type.ClearField("shape")
    unnamed.ClearField("model_version")
    mine, other = (module.InferenceSession(data(unnamed)) for module in (ours, theirs))
    assert mine.get_inputs()[0].shape == other.get_inputs()[0].shape == ["unk__7", 3]
    assert mine.get_outputs()[0].shape == other.get_outputs()[0].shape == [2, None]
    assert mine.get_modelmeta().version == other.get_modelmeta().version


def test_what_classifiers_return(theirs):
    """Converters of scikit-learn's models put a ZipMap behind the probabilities, and name classes by text."""
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(8, helper.make_tensor_type_proto(1, [])))
    nodes = [
        helper.make_node(
            "LinearClassifier", ["x"], ["label", "p"], domain=ML, classlabels_strings=["a", "bc"], multi_class=1,
            coefficients=[1.0, -1.0, -1.0, 2.0], intercepts=[0.1, -0.1], post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["p"], ["maps"], domain=ML, classlabels_strings=["a", "bc"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "classifier", [helper.make_tensor_value_info("x", 1, [None, 2])],
        [helper.make_tensor_value_info("label", 8, [None]), helper.make_value_info("maps", maps)],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    whole = data(helper.make_model(graph, ir_version=9, opset_imports=opsets))
    x = F32([[1, 0], [0, 1], [0.9, 0.4]])
    (mine, probable), (other, wanted) = (
        module.InferenceSession(whole).run(None, {"x": x}) for module in (ours, theirs)
    )
    assert mine.dtype == other.dtype == TEXT
    assert mine.tolist() == other.tolist()
    assert [list(row) for row in probable] == [list(row) for row in wanted] == [["a", "bc"]] * 3
    np.testing.assert_allclose([list(r.values()) for r in probable], [list(r.values()) for r in wanted], atol=1e-6)
    assert all(type(p) is float for row in probable for p in row.values())
    with pytest.raises(ModelError, match=r"ZipMap.*max_bytes"):
        ours.InferenceSession(whole, max_bytes=512).run(None, {"x": x})


class Pickled(ours.InferenceSession):
    """As face recognition clients make sessions that they send to other processes."""

    def __init__(self, path):
        super().__init__(path)
        self.path = path

    def __getstate__(self):
        return {"path": self.path}

    def __setstate__(self, state):
        self.__init__(state["path"])


def test_sessions_that_are_sent_and_copied(tmp_path, added):
    path = tmp_path / "model.onnx"
    path.write_bytes(added)
    session, x = Pickled(path), np.ones((2, 3), F32)
    wanted = session.run(None, {"x": x})
    assert session._model_path == str(path)
    for other in (
        pickle.loads(pickle.dumps(session)),
        copy.deepcopy(session),
        copy.deepcopy(ours.InferenceSession(path)),
    ):
        for _ in range(4):
            np.testing.assert_array_equal(other.run(None, {"x": x}), wanted)


def test_values_that_grow_with_every_run():
    """A decoder's past begins without entries and grows by one a run: programs of old shapes are given up."""
    joined = model(
        [node("Concat", "past new", "all", axis=0)], {"past": (F32, ["n", 2]), "new": (F32, [1, 2])}, {"all": F32}
    )
    session = ours.InferenceSession(data(joined))
    for _ in range(3):
        past = np.zeros((0, 2), F32)
        for i in range(80):
            [past] = session.run(None, {"past": past, "new": np.full((1, 2), i, F32)})
        np.testing.assert_array_equal(past, np.repeat(np.arange(80, dtype=F32), 2).reshape(80, 2))
    gc.collect()
    assert len(session._executor._roads) <= 32


def test_options_that_are_shown_and_counted(theirs):
    for module in (ours, theirs):
        assert str(module.GraphOptimizationLevel.ORT_ENABLE_ALL) == "GraphOptimizationLevel.ORT_ENABLE_ALL"
        options = module.SessionOptions()
        options.intra_op_num_threads = True
        assert options.intra_op_num_threads == 1
        assert type(options.intra_op_num_threads) is int


def test_options_belong_to_one_session(theirs, added, tmp_path):
    for module in (ours, theirs):
        options = module.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path / "first")
        options.add_session_config_entry("key", "first")
        session = module.InferenceSession(added, options)
        options.enable_profiling = False
        options.add_session_config_entry("key", "second")
        assert session.get_session_options().get_session_config_entry("key") == "first"
        session.run(None, {"x": np.zeros((1, 3), F32)})
        assert "first" in session.end_profiling()
        assert module.InferenceSession(added, options).get_session_options().enable_profiling is False


DEVICES = "OrtAllocatorType OrtMemType OrtHardwareDeviceType OrtExecutionProviderDevicePolicy"


def test_the_stand_in_has_the_names_of_devices(theirs):
    with as_onnxruntime() as module:
        from onnxruntime.capi._pybind_state import OrtDevice
        from onnxruntime.capi.onnxruntime_pybind11_state import ModelRequiresCompilation, NotFound

        for name in DEVICES.split():
            mine, other = getattr(module, name), getattr(theirs, name)
            assert {k: int(v) for k, v in mine.__members__.items()} == {k: int(v) for k, v in other.__members__.items()}
            assert [str(v) for v in mine] == [
                str(v) for k, v in other.__members__.items() if k in [m.name for m in mine]
            ]
        for device in (module.OrtDevice.make("cpu", 0), OrtDevice(OrtDevice.cpu(), OrtDevice.default_memory(), 0)):
            assert [device.device_type(), device.device_id(), device.device_mem_type(), device.device_vendor_id()] == [
                0
            ] * 4
        for wrong in (lambda: module.OrtDevice.make("cuda", 0), lambda: module.OrtDevice(1, 0, 0)):
            with pytest.raises(InputError, match="device"):
                wrong()
        info = module.OrtMemoryInfo("Cpu", module.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, module.OrtMemType.DEFAULT)
        module.create_and_register_allocator(info, None)
        module.preload_dlls(cuda=True)
        module.print_debug_info()
        module.set_global_thread_pool_sizes(2, 1)
        assert module.get_ep_devices() == []
        assert module.has_collective_ops() is False
        source, target = (module.OrtValue.ortvalue_from_numpy(np.full(2, v, F32)) for v in (1, 0))
        module.copy_tensors([source], [target])
        assert target.numpy().tolist() == [1, 1]
        with pytest.raises(NotImplementedError, match=r"x\.so"):
            module.register_execution_provider_library("x", "x.so")
        with pytest.raises(TypeError, match="inter_op"):
            module.set_global_thread_pool_sizes(1, "a")
        assert issubclass(NotFound, Exception)
        assert issubclass(ModelRequiresCompilation, Exception)
        assert module.version == module.__version__
        # Python files beside onnxruntime's library are found where it is installed.
        assert importlib.util.find_spec("onnxruntime.capi.onnxruntime_validation") is not None


def test_the_stand_in_is_known_as_installed(monkeypatch):
    """Libraries ask for the version of the distribution before they import it, and leave their ONNX parts out without one."""
    found = importlib.metadata.Distribution.discover
    monkeypatch.setattr(
        importlib.metadata.Distribution,
        "discover",
        classmethod(lambda _, **wanted: (d for d in found(**wanted) if type(d).__module__ == standin.__name__)),
    )
    finders = list(sys.meta_path)
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("onnxruntime")
    with as_onnxruntime():
        assert importlib.metadata.version("onnxruntime") == standin.VERSION
        assert importlib.metadata.metadata("onnxruntime")["Name"] == "onnxruntime"
        with pytest.raises(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version("no-such-distribution")
    assert sys.meta_path == finders
