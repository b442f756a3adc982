"""The two models end to end: against onnxruntime, against float32, and the same from every kernel."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from pyint8dot.onnx import InferenceSession, zoo
from pyint8dot.onnx.zoo import inception, minilm

SENTENCES = [
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "A man is playing a guitar on the street while people walk by.",
    "Interest rates were raised by the central bank for the third time this year.",
    "How do I reset my password?",
    "Machine learning models become smaller and faster when their weights are stored in eight bits.",
    "She sells sea shells by the sea shore, and the shells she sells are sea shells, for sure.",
    "Paris is the capital of France.",
    "The committee postponed its decision until further evidence could be gathered.",
]


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


@functools.cache
def ours(name):
    return InferenceSession(zoo.model_path(name))


@functools.cache
def theirs(name):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return runtime.InferenceSession(str(zoo.model_path(name)), options, providers=["CPUExecutionProvider"])


def texts(batch, length):
    """Token numbers of real sentences, cut and padded to `length`; longer texts are several sentences."""
    from pyint8dot.models.text import Tokenizer

    joined = [" ".join(SENTENCES[(i + j) % 8] for j in range(max(1, length // 16 - i % 3))) for i in range(batch)]
    found = Tokenizer().encode(joined, length)
    ids, mask = np.zeros((2, batch, length), np.int64)
    for i, tokens in enumerate(found):
        ids[i, : len(tokens)], mask[i, : len(tokens)] = tokens, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


@pytest.mark.static
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("length", [7, 64, 128])
def test_minilm_against_onnxruntime_and_float32(batch, length):
    feed = texts(batch, length)
    names = ["sentence_embedding"]
    [got] = ours("minilm-int8").run(names, feed)
    assert got.shape == (batch, 384)
    assert cosine(got, theirs("minilm-int8").run(names, feed)[0]).min() >= 0.995
    assert cosine(got, ours("minilm-float32").run(names, feed)[0]).min() >= 0.985


@pytest.mark.static
def test_float_minilm_is_onnxruntimes():
    feed = texts(8, 64)
    for got, wanted in zip(
        ours("minilm-float32").run(None, feed), theirs("minilm-float32").run(None, feed), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.static
def test_minilm_is_fused_throughout():
    report = ours("minilm-int8").report()
    ops = {op: count for op, (count, _) in report.by_op().items()}
    assert not report.reference_ops()
    assert ops["MatMulFloat"] == 36
    # One for the three products of each attention; the others are part of the one product they serve.
    assert ops["DynamicQuantizeLinear"] == 6
    assert sum("DynamicQuantizeLinear" in row.covers for row in report.rows) == 24
    assert not ops.keys() & {"MatMulInteger", "Cast", "Erf"} - {"Cast"}
    assert sum("Gelu" in row.covers or "Erf" in row.covers for row in report.rows if row.op == "MatMulFloat") == 6


@pytest.mark.static
@pytest.mark.parametrize("form", ["s8s8", "u8s8", "dynamic", "qdq"])
def test_inception_against_onnxruntime(form):
    name = f"inceptionv1-{form}"
    assert not ours(name).report().reference_ops()
    for seed in (100, 101):
        feed = {inception.INPUT: inception.image(seed)}
        got, wanted = ours(name).run([inception.LOGITS], feed)[0], theirs(name).run([inception.LOGITS], feed)[0]
        assert got.argmax() == wanted.argmax()
        assert cosine(got, wanted).min() >= 0.999
        assert cosine(got, ours("inceptionv1-float32").run([inception.LOGITS], feed)[0]).min() >= 0.995


@pytest.mark.static
@pytest.mark.parametrize("form", ["s8s8", "u8s8"])
def test_inception_has_the_very_codes_of_onnxruntime(form):
    """Integer products, requantisation and pooling are exact; only the float layers between them may differ."""
    feed = {inception.INPUT: inception.image(100)}
    got, wanted = (s(f"inceptionv1-{form}").run([inception.LOGITS], feed)[0] for s in (ours, theirs))
    assert np.abs(got - wanted).max() <= 0.05 * np.abs(wanted).max()


@pytest.mark.static
def test_inception_stays_in_codes():
    report = ours("inceptionv1-s8s8").report()
    ops = {op: count for op, (count, _) in report.by_op().items()}
    assert ops["QLinearConv"] == 57
    assert ops["MaxPool"] == 13
    # Floats appear at both ends, around the two normalisations and nowhere else.
    assert ops["QuantizeLinear"] <= 4
    assert ops["DequantizeLinear"] <= 7
    assert {row.by for row in report.rows if row.op == "QLinearConv"} == {ours("inceptionv1-s8s8").kernel}


def test_every_kernel_gives_the_same_minilm(kernel):
    """The integers are exact and everything else is the same code, so the floats are the same bits."""
    feed = minilm.token_feed(seed=5, batch=1, length=7)
    got = InferenceSession(zoo.model_path("minilm-int8"), kernel=kernel).run(None, feed)
    for a, b in zip(got, portable("minilm-int8", seed=5), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_kernel_gives_the_same_inception(kernel):
    feed = {inception.INPUT: inception.image(3)}
    [got] = InferenceSession(zoo.model_path("inceptionv1-s8s8"), kernel=kernel).run([inception.LOGITS], feed)
    np.testing.assert_array_equal(got, portable("inceptionv1-s8s8", seed=3)[0])


@functools.cache
def portable(name, seed):
    """The results of the portable kernel, worked out once."""
    session = InferenceSession(zoo.model_path(name), kernel="portable")
    if "minilm" in name:
        return session.run(None, minilm.token_feed(seed=seed, batch=1, length=7))
    return session.run([inception.LOGITS], {inception.INPUT: inception.image(seed)})


def test_threads_do_not_change_a_bit(kernel):
    feed = minilm.token_feed(seed=6, batch=1, length=16)
    path = zoo.model_path("minilm-int8")
    one, two = (InferenceSession(path, kernel=kernel, num_threads=n).run(None, feed) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_cache_is_where_it_is_said_to_be(monkeypatch, tmp_path):
    made = []

    def small():
        made.append(1)
        return zoo.inception.Builder("empty").model()

    monkeypatch.setenv("PYINT8DOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(zoo.MODELS, "small", small)
    path = zoo.model_path("small")
    assert path.parent == tmp_path / "cache"
    assert zoo.model_path("small") == path
    assert made == [1]
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    monkeypatch.delenv("PYINT8DOT_CACHE")
    assert zoo.cache_folder().parts[-2:] == (".cache", "pyint8dot")
    with pytest.raises(ValueError, match="no model 'large'; there are minilm-float32, "):
        zoo.model_path("large")


def test_interrupted_making_leaves_nothing(monkeypatch, tmp_path):
    def broken():
        raise KeyboardInterrupt

    monkeypatch.setenv("PYINT8DOT_CACHE", str(tmp_path))
    monkeypatch.setitem(zoo.MODELS, "small", broken)
    with pytest.raises(KeyboardInterrupt):
        zoo.model_path("small")
    assert not list(tmp_path.iterdir())


def test_models_are_made_by_name_on_the_command_line(monkeypatch, tmp_path, capsys):
    from pyint8dot.onnx.zoo.__main__ import main

    monkeypatch.setenv("PYINT8DOT_CACHE", str(tmp_path))
    monkeypatch.setitem(zoo.MODELS, "small", zoo.inception.Builder("empty").model)
    assert main(["small"]) == 0
    assert capsys.readouterr().out.strip() == str(next(tmp_path.iterdir()))
    assert main(["large"]) == 2
    assert "no model 'large'" in capsys.readouterr().err
