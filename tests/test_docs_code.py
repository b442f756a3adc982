"""The documents' code runs and prints what they say, and calls take the memory that they say."""

from __future__ import annotations

import re
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from support.documents import PAGES, README, TEXT

import pyint8dot
from pyint8dot.engine import cpu

static = pytest.mark.static


def blocks_of(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


BLOCKS = {path: blocks for path, text in PAGES.items() if (blocks := blocks_of(text))}
# What a block imports, and the distribution that this needs beside numpy.
EXTRAS = {"pyint8dot.models": "tokenizers", "pyint8dot.onnx": "onnx"}


def extra(block: str) -> str:
    """The module that a block needs and a plain installation lacks, or nothing."""
    return next((needs for module, needs in EXTRAS.items() if f"from {module} import" in block), "")


def run(source: str, names: dict) -> list[tuple[str, str]]:
    """Run a block; return what each print() with a comment printed, and that comment."""
    lines = source.splitlines()
    seen: list[tuple[str, str]] = []

    def record(*values: object) -> None:
        _, comment, promised = lines[sys._getframe(1).f_lineno - 1].partition("  # ")
        if comment and not promised.startswith("for example"):
            seen.append((" ".join(map(str, values)), promised))

    names["print"] = record
    exec(compile(source, "README.md", "exec"), names)
    return seen


def promises(source: str) -> int:
    """How many lines of a block say what they print."""
    return len(re.findall(r"^\s*print\(.*\)  # (?!for example)", source, re.MULTILINE))


@pytest.mark.parametrize("path", BLOCKS)
def test_the_code_runs_and_prints_what_it_says(path, tmp_path, monkeypatch):
    """A page's blocks run one after the other, those that need an extra where it is installed."""
    names: dict = {}
    monkeypatch.chdir(tmp_path)  # some write files
    for block in BLOCKS[path]:
        if extra(block):
            pytest.importorskip(extra(block))
        seen = run(block, names)
        assert [printed for printed, _ in seen] == [promised for _, promised in seen]
        assert len(seen) == promises(block)


def test_most_pages_have_code():
    assert "README.md" in BLOCKS
    assert len(BLOCKS) >= 6
    assert {extra(block) for blocks in BLOCKS.values() for block in blocks} == {"", *EXTRAS.values()}
    # The README runs without any extra.
    assert not any(map(extra, BLOCKS["README.md"]))


def test_a_wrong_promise_is_noticed():
    assert run("print(1 + 1)  # 3\nprint(0)\nprint(5)  # for example 6", {}) == [("2", "3")]


@static
def test_code_stands_on_the_first_screen():
    before, _, _ = README.partition("```python\n")
    assert before.startswith("# pyint8dot\n\n")
    assert len(before.splitlines()) <= 8
    assert len(BLOCKS["README.md"][0].splitlines()) <= 12


CONSTANT = 16 * 1024  # bytes, as the documents say


def peak(call) -> int:
    """Bytes that a thread's first call takes beside its result."""
    found = []

    def work() -> None:
        tracemalloc.start()
        result = call()
        found.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
        tracemalloc.stop()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.native
def test_memory_of_a_call(native_kernel):
    m, k, n = 256, 384, 512
    a, b = np.ones((m, k), np.int8), pyint8dot.pack(np.ones((k, n), np.int8), kernel=native_kernel)
    x = a.astype(np.float32)
    half = cpu.caches()[1] // 2
    products = {
        "matmul": (lambda: pyint8dot.matmul(a, b, kernel=native_kernel), m * k),
        "linear": (lambda: pyint8dot.linear(x, b, w_scale=np.float32(1), kernel=native_kernel), half),
        "qlinear_matmul": (lambda: pyint8dot.qlinear_matmul(a, 1.0, 0, b, 1.0, 0, 1.0, 0, kernel=native_kernel), half),
    }
    for name, (call, block) in products.items():
        call()  # what is made once per process, and the sums of the columns
        assert peak(call) <= block + CONSTANT, name


@pytest.mark.parametrize(("k", "n", "percent"), [(384, 1536, "1.0"), (512, 512, "0.8"), (2048, 2048, "0.2")])
def test_memory_of_a_packed_matrix(k, n, percent, kernel):
    packed = pyint8dot.pack(np.zeros((k, n), np.int8), kernel=kernel)
    assert f"{100 * (packed.nbytes / (k * n) - 1):.1f}" == percent
    assert f"{percent} % for {k} x {n}" in " ".join(TEXT.split())
