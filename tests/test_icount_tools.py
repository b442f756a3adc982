"""What counts instructions: that it makes the calls it names, on the processor that fits, and compares as it says."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from emulation import layout
from icount import calls, forms, measure, picture, tables
from support import rows

import pyint8dot
from pyint8dot.engine import cpu, kernels, settings

SMALL = [(call, shape) for call in calls.CALLS for shape in tables.small_shapes(call)]


@pytest.mark.parametrize(("name", "shape"), SMALL, ids=str)
def test_every_form_can_be_called_again_and_again(name, shape):
    if name.startswith("InferenceSession"):
        pytest.importorskip("onnx")
    row = calls.CALLS[name]
    with row.within():
        call = row.make(*shape)
        first, second = (np.array(call()).ravel() for _ in range(2))
    assert first.size == shape[0] * shape[2]
    assert np.unique(first).size > 1
    np.testing.assert_array_equal(first, second)


def test_fresh_scalars_are_equal_and_never_the_same(monkeypatch):
    seen = []
    monkeypatch.setattr(pyint8dot, "qlinear_matmul", lambda *arguments: seen.append(arguments))
    call = calls.CALLS["qlinear_matmul, fresh scalars"].make(8, 8, 8)
    for _ in range(calls.WARM + calls.REPEATS):
        call()
    scalars = [[value for value in arguments if isinstance(value, np.generic)] for arguments in seen]
    assert len({id(value) for values in scalars for value in values}) == 6 * len(seen)
    assert {tuple(map(float, values)) for values in scalars} == {(0.5, 0, 0.25, 0, 100, 0)}


def made(monkeypatch, table):
    """The settings in force at each marker when the calls of a table are made, by the order of the markers."""
    kernel, marks = forms.chosen(), []
    monkeypatch.setattr(calls, "CALLS", table)
    monkeypatch.setenv("PYINT8DOT_KERNEL", kernel)
    monkeypatch.setattr(os, "getppid", lambda: marks.append(settings.current()))
    calls.make(kernel, calls.EVERYTHING)
    assert marks[: 2 * calls.IDLE] == [settings.NOTHING] * 2 * calls.IDLE
    return marks[2 * calls.IDLE :]


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("matmul, a uint8", settings.NOTHING),
        ("matmul, in use_kernel", settings.Settings(kernel=forms.chosen())),
        ("matmul, in num_threads(1)", settings.Settings(num_threads=1)),
    ],
)
def test_a_block_is_open_around_the_counted_calls(name, inside, monkeypatch):
    marks = made(monkeypatch, {name: calls.CALLS[name]})
    assert marks == [inside] * 2 * calls.REPEATS * len(calls.SMALL)
    assert settings.current() is settings.NOTHING


def test_a_call_is_made_before_it_is_counted_and_large_ones_less_often(monkeypatch):
    made_calls = []

    def make(*shape):
        return lambda: made_calls.append(shape)

    small, large = (8, 8, 8), (1000, 1000, 1000)
    marks = made(monkeypatch, {"it": calls.Call(make, (small, large), "call")})
    assert made_calls == [small] * (calls.WARM + calls.REPEATS) + [large] * (calls.WARM_LARGE + calls.REPEATS_LARGE)
    assert len(marks) == 2 * (calls.REPEATS + calls.REPEATS_LARGE)


def test_another_checkout_is_not_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(pyint8dot, "__file__", str(tmp_path / "pyint8dot" / "__init__.py"))
    with pytest.raises(SystemExit, match="not of this checkout"):
        calls.main([], 0)


def test_another_kernel_is_not_counted(monkeypatch):
    monkeypatch.setenv("PYINT8DOT_KERNEL", "")
    with pytest.raises(SystemExit, match="sdot_9x9 was not chosen"):
        calls.make("sdot_9x9", 0)


@pytest.mark.parametrize(
    ("feature", "model"), [("asimd", "cortex-a72"), ("dotprod", "neoverse-n1"), ("i8mm", "max,sve=off,sme=off")]
)
def test_a_kernel_is_counted_on_the_first_model_that_has_its_features(feature, model, monkeypatch):
    row = dataclasses.replace(rows.NATIVE[-1], name="new", features=frozenset({feature}))
    monkeypatch.setitem(kernels.KERNELS, "new", row)
    assert measure.cpu_for("new") == model


def test_a_kernel_that_fits_no_model_is_an_error(monkeypatch):
    row = dataclasses.replace(rows.NATIVE[-1], name="new", features=frozenset({"amx"}))
    monkeypatch.setitem(kernels.KERNELS, "new", row)
    with pytest.raises(LookupError, match="no CPU model has what new needs: amx"):
        measure.cpu_for("new")


@pytest.mark.optional
@pytest.mark.parametrize("model", layout.MODELS, ids=lambda model: model.name)
def test_the_models_have_the_features_they_are_listed_with(model):
    if layout.kind() != "emulated" or not layout.PYTHON.exists():
        pytest.skip("CPU models are emulated on x86-64 Debian, after `make setup`")
    # The module alone, since importing numpy takes seconds under emulation.
    program = f"import runpy; print(*runpy.run_path({cpu.__file__!r})['features']())"
    environment = {**os.environ, "QEMU_CPU": model.cpu}
    said = subprocess.run([layout.PYTHON, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert set(said.stdout.split()) == model.features


def test_comparison_reports_what_differs():
    goldens = {"a": 10_000_000, "b": 100_000, "gone": 1, "same": 7}
    counts = {"a": 10_100_000, "b": 106_000, "new": 5, "same": 7}
    lines = measure.compare(counts, goldens)
    assert [line.partition(":")[0] for line in lines] == ["new", "gone", "a", "b"]
    assert "+1.0%" in lines[2]
    assert measure.compare({"a": 10_049_000, "b": 95_100}, {"a": 10_000_000, "b": 100_000}) == []
    assert len(measure.compare({"a": 9_900_000}, {"a": 10_000_000})) == 1


def test_the_table_shows_counts_per_unit_of_work():
    name = "matmul sdot_8x8 8x8x8"
    row = measure.table({name: 1024}, {name: 1000}).splitlines()[1]
    assert "1,024" in row
    assert "2.0000" in row
    assert "+2.40%" in row


def test_the_table_leaves_whole_calls_whole():
    row = measure.table({"matmul, out= sdot_8x8 8x8x8": 16_000}, {}).splitlines()[1]
    assert row.split() == ["matmul,", "out=", "sdot_8x8", "8x8x8", "16,000", "call", "new"]


# The tables of the documentation.


NATIVE = ["sdot_8x8", "smlal_8x8"]
GOLDENS = dict.fromkeys(calls.keys(NATIVE), 12_345)


def with_counts(**counts):
    """The goldens, those of `matmul` on a kernel changed on every shape."""
    changed = {calls.key("matmul", name, shape): count for name, count in counts.items() for shape in calls.SHAPES}
    return GOLDENS | changed


def test_the_tables_show_counts_and_bars():
    text = tables.markdown(GOLDENS).splitlines()
    assert text[text.index("| form | 8x8x8 | bar | 1x384x384 | bar |") + 1] == "|---|---|---|---|---|"
    assert "| `matmul`, out= | 12.3 | 16 | 12.3 | 31 |" in text
    assert "| `matmul`, a 1-D | 12.3 (1x8x8) | 18 | 12.3 | 33 |" in text
    assert "| `matmul` | 1000x384x16 | 0.0020 | 0.076 |" in text
    assert "| `matmul`, batch of 12 | 128x64x128 | 0.0010 | 0.1033 |" in text


def test_the_tables_show_every_kernel():
    text = tables.markdown(with_counts(smlal_8x8=49_380)).splitlines()
    assert "| `sdot_8x8` | 12.3 | 12.3 | 0.0007 | 0.0002 | 0.0002 | 0.0001 | 0.0000 |" in text
    assert "| `smlal_8x8` | 49.4 | 49.4 | 0.0026 | 0.0007 | 0.0007 | 0.0004 | 0.0002 |" in text
    assert "| ratio | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 |" in text
    assert "| `pack`, transposed | 1x384x1536 | byte | 0.0209 | 0.0209 |" in text
    models = {name: 3_000_000 for name in calls.keys(["sdot_8x8"]) if name.startswith("MiniLM")}
    models |= {name: 9_600_000 for name in calls.keys(["smlal_8x8"]) if name.startswith("MiniLM")}
    assert f"| MiniLM | 3 | 10 | 3.20 | {tables.PEERS['MiniLM']['onnxruntime'][0]} |" in tables.models(GOLDENS | models)


def test_the_tables_show_other_libraries_below_ours():
    text = tables.beside(GOLDENS).splitlines()
    below = text.index("| **`qlinear_matmul`**, int8 out | 12.3 | 12.3 | 0.0007 | 0.0002 | 0.0002 | 0.0001 | 0.0000 |")
    assert text[below + 1].startswith("| LiteRT FULLY_CONNECTED | 14.6 | 35.1 | 0.0841 |")


def test_where_others_take_less_is_said():
    """In thousands, numpy takes 9.3 of 8x8x8 and numkong 4.9; a count of 10 million is more than all of theirs."""
    assert tables.smaller(with_counts(sdot_8x8=4_800)) == f"{tables.SMALLER}none."
    assert tables.smaller(GOLDENS) == f"{tables.SMALLER}numkong dots_packed at 8x8x8, numpy float32 `@` at 8x8x8."
    said = tables.smaller(with_counts(sdot_8x8=10_000_000))
    assert "numkong dots_packed at 1x384x384, numkong dots_packed at 128x384x384," in said


@pytest.mark.parametrize("name", calls.keys([calls.BARS_ON]))
def test_every_count_stands_in_a_table(name):
    assert tables.differences(tables.markdown(GOLDENS), GOLDENS | {name: 10 * GOLDENS[name] ** 2})


def test_a_text_is_compared_with_the_tables():
    text = f"# Counts\n\n{tables.markdown(GOLDENS)}\n\nAnd more.\n"
    assert tables.differences(text, GOLDENS) == []
    out = "| `matmul`, out= | 12.3 | 16 | 12.3 | 31 |"
    assert tables.differences(text.replace(out, out.replace("12.3 | 16", "12.4 | 16")), GOLDENS) == [
        "- | `matmul`, out= | 12.4 | 16 | 12.3 | 31 |",
        "+ | `matmul`, out= | 12.3 | 16 | 12.3 | 31 |",
    ]
    other = tables.further(GOLDENS)
    assert tables.differences(text.replace(other, f"{other}\n| a | row | too | many |"), GOLDENS) == [
        "- | a | row | too | many |"
    ]
    assert tables.differences(text.replace(other, ""), GOLDENS) == [f"+ {line}" for line in other.splitlines()]


def test_a_text_is_rewritten_in_place():
    old, new = with_counts(sdot_8x8=7_000), with_counts(sdot_8x8=20_000, smlal_8x8=30_000)
    text = "# Counts\n\n{}\n\nAnd more.\n"
    assert tables.rewritten(text.format(tables.markdown(old)), new) == text.format(tables.markdown(new))
    assert tables.rewritten(text.format(tables.beside(old)), new) == text.format(tables.beside(new))


@pytest.fixture
def documents(monkeypatch, tmp_path):
    """Two documents that have the tables of `GOLDENS` between them, and goldens that the commands read."""
    one, other, goldens = tmp_path / "one.md", tmp_path / "other.md", tmp_path / "goldens.json"
    first, *rest = tables.pieces(GOLDENS)
    one.write_text(f"Before.\n\n{first}\n\nAfter.\n")
    other.write_text("\n\n".join([*rest, ""]))
    goldens.write_text(json.dumps(GOLDENS))
    monkeypatch.setattr(tables, "DOCUMENTS", [one, other])
    monkeypatch.setattr(tables, "PICTURE", tmp_path / "picture.svg")
    monkeypatch.setattr(tables, "GOLDENS", goldens)
    monkeypatch.setattr(measure, "GOLDENS", goldens)
    return one, other, goldens


def test_new_goldens_go_to_the_documents_too(documents, monkeypatch, capsys):
    one, other, goldens = documents
    # Within the tolerance a golden stays, and so does what the documents say of it.
    counts = with_counts(sdot_8x8=20_000, smlal_8x8=12_400)
    monkeypatch.setattr(measure, "measure", lambda: counts)
    monkeypatch.setattr(sys, "argv", ["measure", "--update"])
    assert measure.main() == 0
    kept = with_counts(sdot_8x8=20_000)
    assert json.loads(goldens.read_text()) == kept
    first, *rest = tables.pieces(kept)
    assert one.read_text() == f"Before.\n\n{first}\n\nAfter.\n"
    assert other.read_text() == "\n\n".join(rest) + "\n\n"
    assert f"{len(calls.SHAPES)} of {len(GOLDENS)} changed" in capsys.readouterr().out


def test_the_tables_are_printed_or_written(documents, monkeypatch, capsys):
    one, other, goldens = documents
    new = with_counts(sdot_8x8=20_000)
    goldens.write_text(json.dumps(new))
    monkeypatch.setattr(sys, "argv", ["tables"])
    assert tables.main() == 0
    assert capsys.readouterr().out == tables.markdown(new) + "\n"
    assert tables.differences(one.read_text() + other.read_text(), GOLDENS) == []
    monkeypatch.setattr(sys, "argv", ["tables", "--write"])
    assert tables.main() == 0
    assert tables.differences(one.read_text() + other.read_text(), new) == []
    assert tables.PICTURE.read_text() == picture.svg(new)


def test_a_table_that_no_document_has_is_an_error(documents):
    documents[0].write_text("Nothing.\n")
    with pytest.raises(LookupError, match=r"no document has the table that begins with '\| m x k x n \| 8x8x8 "):
        tables.write(GOLDENS)


def test_a_table_that_a_document_has_twice_is_an_error(documents):
    documents[0].write_text(2 * documents[0].read_text())
    with pytest.raises(LookupError, match=r"2 lines begin with '\| m x k x n \| 8x8x8 "):
        tables.write(GOLDENS)
