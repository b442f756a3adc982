"""Files of a model: what may be read, where it may lie, and what is said where it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import TensorProto, numpy_helper
from support.broken import good, refused
from support.onnx_graphs import data, model, node

from pyint8dot.onnx import InferenceSession, ModelError, SessionOptions

F32 = np.float32


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.onnx"):
        InferenceSession(tmp_path / "nowhere.onnx")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        InferenceSession(tmp_path)
    with pytest.raises(TypeError, match="file name or bytes, not int"):
        InferenceSession(3)


def external(tmp_path, location, *, offset=None, length=None):
    made = good()
    tensor = made.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(b"####" + raw)
    (tmp_path / "secret.bin").write_bytes(b"####" + raw)
    (folder / "model.onnx").write_bytes(data(made))
    return str(folder / "model.onnx")


def test_external_data_in_the_folder_is_read(tmp_path):
    path = external(tmp_path, "weights.bin", offset=4, length=12)
    x = np.ones((2, 4), np.int8)
    np.testing.assert_array_equal(
        InferenceSession(path).run(None, {"x": x})[0], InferenceSession(data(good())).run(None, {"x": x})[0]
    )


def test_external_data_outside_the_folder_is_not(tmp_path):
    refused(external(tmp_path, "../secret.bin", offset=4), "initialiser 'w': external data '../secret.bin' is outside")
    refused(external(tmp_path, str(tmp_path / "secret.bin"), offset=4), "initialiser 'w': external data .* is outside")
    refused(external(tmp_path, "", offset=4), "is outside the model's folder")
    refused(external(tmp_path, ".", offset=4), "is outside the model's folder")
    path = external(tmp_path, "link.bin", offset=4)
    (tmp_path / "folder" / "link.bin").symlink_to(tmp_path / "secret.bin")
    refused(path, "initialiser 'w': external data 'link.bin' is outside")


def test_external_data_through_the_links_of_a_cache(tmp_path):
    """A snapshot made of links to files that lie together elsewhere, as Hugging Face's cache has them."""
    path = Path(external(tmp_path, "weights.bin", offset=4, length=12))
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "one" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for name, blob in (("model.onnx", "aaa"), ("weights.bin", "bbb")):
        (path.parent / name).rename(blobs / blob)
        (snapshot / name).symlink_to(Path("../../../blobs") / blob)
    x = np.ones((2, 4), np.int8)
    wanted = InferenceSession(data(good())).run(None, {"x": x})[0]
    np.testing.assert_array_equal(InferenceSession(snapshot / "model.onnx").run(None, {"x": x})[0], wanted)
    # A link to anywhere else stays outside, and so does the way to the blobs without the link.
    (snapshot / "weights.bin").unlink()
    (snapshot / "weights.bin").symlink_to(tmp_path / "secret.bin")
    refused(str(snapshot / "model.onnx"), "outside the model's folder")
    (blobs / "aaa").write_bytes(Path(external(tmp_path, "../../../blobs/bbb", offset=4)).read_bytes())
    refused(str(snapshot / "model.onnx"), "outside the model's folder")


def test_bytes_may_name_the_folder_of_their_external_data(tmp_path):
    path = Path(external(tmp_path, "weights.bin", offset=4))
    options = SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    assert InferenceSession(path.read_bytes(), options).get_inputs()[0].name == "x"


@pytest.mark.static
def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    path = Path(external(tmp_path, "weights.bin", offset=4))
    real, locked = Path.open, "weights.bin"

    def opened(self, *rest, **options):
        if self.name == locked:
            raise PermissionError("not yours")
        return real(self, *rest, **options)

    monkeypatch.setattr(Path, "open", opened)
    refused(str(path), "initialiser 'w': external data 'weights.bin' cannot be read: not yours")
    locked = "model.onnx"
    refused(str(path), r"model\.onnx.*cannot be read: not yours")
    refused("a\0b", "cannot be read|no model file")
    refused("x" * 5000, "cannot be read|no model file")


def test_external_data_that_does_not_fit(tmp_path):
    refused(external(tmp_path, "none.bin"), "external data 'none.bin' is not a file")
    refused(
        external(tmp_path, "weights.bin", offset=8, length=12),
        "needs 12 bytes; external data .* of 16 bytes offers 12 at 8",
    )
    refused(external(tmp_path, "weights.bin", offset=-4, length=12), "at -4")
    refused(external(tmp_path, "weights.bin", offset=4, length=1 << 60), "needs 12 bytes")
    refused(external(tmp_path, "weights.bin", offset="four"), "no number")
    refused(Path(external(tmp_path, "weights.bin", offset=4)).read_bytes(), "given as bytes has no folder")


def test_external_data_inside_an_attribute(tmp_path):
    made = good()
    tensor = numpy_helper.from_array(np.ones(3, F32), "t")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    made.graph.node.append(node("Constant", "", "k", value=tensor))
    path = tmp_path / "model.onnx"
    path.write_bytes(data(made))
    refused(str(path), r"node 'the Constant' \(Constant\): attribute 'value'.*outside")


def branching(weights):
    """A product, and a choice between two branches that read its weights, one of them with weights of its own."""
    kind = [onnx.helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    other = numpy_helper.from_array(-weights, "other")
    branches = [
        onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["h", name], ["o"])], name, [], kind, held)
        for name, held in (("w", []), ("other", [other]))
    ]
    nodes = [
        node("MatMul", "x w", "h"),
        node("If", "c", "y", then_branch=branches[0], else_branch=branches[1]),
        node("Gelu", "h", "g", domain="com.microsoft"),
    ]
    made = model(nodes, {"x": (F32, ["n", 16]), "c": (np.bool_, [])}, {"y": F32, "g": F32}, {"w": weights})
    # An initialiser that a feed may replace is an input already.
    made.graph.input.append(onnx.helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 16]))
    return made


def test_large_tensors_are_not_written_out_for_types(monkeypatch):
    """onnx's checks take a model as bytes, of which protobuf writes no more than 2 GiB."""
    x, weights = np.ones((2, 16), F32), np.arange(256, dtype=F32).reshape(16, 16) / 256
    feeds = [{"x": x, "c": np.array(c), **more} for c in (True, False) for more in ({}, {"w": 2 * weights})]
    whole = data(branching(weights))
    wrong = model([node("MatMul", "x w", "h")], {"x": x}, {"h": F32}, {"w": weights.reshape(8, 32)})
    plain = InferenceSession(whole)
    seen = []
    inferred = onnx.shape_inference.infer_shapes

    def watched(given, **options):
        seen.extend(tensor.name for tensor in given.graph.initializer)
        return inferred(given, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", watched)
    monkeypatch.setattr("pyint8dot.onnx.load._LARGE", 256)
    light = InferenceSession(whole)
    assert "w" not in seen
    for method in ("get_inputs", "get_outputs", "get_overridable_initializers"):
        assert getattr(light, method)() == getattr(plain, method)()
    for feed in feeds:
        for mine, wanted in zip(light.run(None, feed), plain.run(None, feed), strict=True):
            np.testing.assert_array_equal(mine, wanted)
    with pytest.raises(ModelError, match="types or shapes do not fit"):
        InferenceSession(data(wrong))


def test_tensors_of_branches_that_cannot_be_written_out(monkeypatch):
    def refuse(*_, **__):
        raise EncodeError("Failed to serialize proto")

    x, weights = np.ones((2, 16), F32), np.eye(16, dtype=F32)
    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    session = InferenceSession(data(branching(weights)))
    np.testing.assert_array_equal(session.run(["y"], {"x": x, "c": np.array(False)})[0], -x)
