"""``python -m pyint8dot demo``: real sentences through an int8 MiniLM, and two whole models, on every kernel this machine runs."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyint8dot.cli import compare_models, tables
from pyint8dot.engine import settings
from pyint8dot.engine.dispatch import kernel_info, supported
from pyint8dot.matmul import matmul
from pyint8dot.models.layers import HEADS, EncoderLayer, Int8Linear
from pyint8dot.models.minilm import MiniLM
from pyint8dot.quantize import quantize_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyint8dot.floats import FloatArray

SENTENCES = (
    "A pinch of salt brings out the sweetness of ripe tomatoes.",
    "Let the dough rest for an hour before you put it in the oven.",
    "Fry the onions slowly until they are soft and golden.",
    "The space telescope photographed a galaxy ten billion light years away.",
    "Jupiter is larger than all the other planets put together.",
    "Astronomers found water vapour in the air of a distant planet.",
    "The central bank raised interest rates to slow inflation down.",
    "Investors are worried that rising borrowing costs will hurt the banks.",
    "Higher borrowing costs are making mortgages harder to afford.",
    "Our cat sleeps all day and hunts mice at night.",
    "The puppy chewed a hole in my favourite shoe.",
    "Wolves live in packs and raise their young together.",
)

LENGTH = 128
LOWEST_COSINE = 0.99


@dataclass
class Agreement:
    """Whether every kernel gave the integers of the first one, and how many integers that were."""

    kernels: tuple[str, ...]
    products: int = 0
    integers: int = 0
    different: dict[str, int] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)

    def add(self, results: dict[str, npt.NDArray[np.int32]]) -> None:
        """Compare one product, computed by every kernel."""
        first = results[self.kernels[0]]
        self.products += 1
        self.integers += first.size
        for name, result in results.items():
            self.different[name] = self.different.get(name, 0) + int(np.count_nonzero(result != first))
            self.sums[name] = self.sums.get(name, 0) + int(np.sum(result, dtype=np.int64))


class Compared:
    """A linear map of the model that also has its product computed by every kernel."""

    def __init__(self, inner: Int8Linear, agreement: Agreement) -> None:
        self.inner = inner
        self.agreement = agreement

    def __call__(self, x: FloatArray, special: npt.NDArray[np.intp]) -> FloatArray:
        """Compare, then give the map's own result."""
        rows, _ = quantize_rows(x)
        self.agreement.add({name: matmul(rows, self.inner.packed, kernel=name) for name in self.agreement.kernels})
        return self.inner(x, special)


def compare_kernels(model: MiniLM, ids: npt.NDArray[np.intp]) -> Agreement:
    """Run one padded batch through the model, every product of its linear layers on every kernel of this machine.

    Parameters
    ----------
    model : MiniLM
        With int8 weights; unchanged afterwards.
    ids : ndarray of intp, shape (batch, length)
        Token numbers.

    Returns
    -------
    Agreement
    """
    agreement = Agreement(supported())
    originals = [(layer, name, getattr(layer, name)) for layer in model.layers for name in EncoderLayer.MAPS]
    try:
        for layer, name, inner in originals:
            setattr(layer, name, Compared(inner, agreement))
        model.forward(ids)
    finally:
        for layer, name, inner in originals:
            setattr(layer, name, inner)
    return agreement


def embed_padded(model: MiniLM, sentences: Sequence[str], length: int) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Embed all sentences in one batch, each padded with zeros to `length` tokens.

    Parameters
    ----------
    model : MiniLM
        The model.
    sentences : sequence of str
        At least one.
    length : int
        Tokens a sentence; what is longer is cut off.

    Returns
    -------
    vectors : ndarray of float32, shape (n, 384)
        Of length 1.
    ids : ndarray of intp, shape (n, length)
        The padded token numbers.
    """
    model.max_seq_length = length
    tokens = model.tokenize(sentences)
    ids = np.zeros((len(tokens), length), dtype=np.intp)
    mask = np.zeros(ids.shape, dtype=np.float32)
    for i, sentence in enumerate(tokens):
        ids[i, : len(sentence)] = sentence
        mask[i, : len(sentence)] = 1
    hidden = model.forward(ids, mask)
    means = np.einsum("bld,bl->bd", hidden, mask) / mask.sum(axis=1, keepdims=True)
    vectors: FloatArray = means / np.linalg.norm(means, axis=1, keepdims=True)
    return vectors, ids


def attention_work(model: MiniLM, ids: npt.NDArray[np.intp]) -> tuple[int, int]:
    """Products and multiply-accumulates of attention, which are no linear layer and stay in float32.

    Parameters
    ----------
    model : MiniLM
        The model.
    ids : ndarray of intp, shape (n, length)
        Padded with zeros.

    Returns
    -------
    products, macs : int
    """
    n, length = ids.shape
    keys = int(np.count_nonzero(ids))
    return 2 * len(model.layers) * HEADS * n, 2 * len(model.layers) * model.dimension * length * keys


def run(sentences: Sequence[str] = SENTENCES, length: int = LENGTH) -> int:
    """Print the demonstration.

    Parameters
    ----------
    sentences : sequence of str
        At least two.
    length : int
        Tokens each sentence is padded or cut to.

    Returns
    -------
    int
        Exit code: 1 if two kernels differ in an integer or an embedding is too far from the float32 model's.
    """
    show_kernels()
    model = MiniLM.load()
    start = time.perf_counter()
    with settings.tally() as counted:
        vectors, ids = embed_padded(model, sentences, length)
    seconds = time.perf_counter() - start
    reference = MiniLM.load(precision="float32", max_seq_length=length).encode(list(sentences))
    cosines = np.einsum("ij,ij->i", vectors, reference)

    tables.heading(
        f"{len(sentences)} sentences at sequence length {length}: all-MiniLM-L6-v2, int8, in {seconds:.1f} s"
    )
    show_neighbours(sentences, vectors, cosines)
    close = bool(cosines.min() >= LOWEST_COSINE)
    print(
        f"\nLowest cosine against the float32 model: {cosines.min():.4f}, {'at least' if close else 'BELOW'} {LOWEST_COSINE}."
    )

    tables.heading("Where the multiplications of these sentences ran")
    work = [(name, counted.calls[name], macs) for name, macs in counted.macs.items()]
    work.append(("float32, numpy", *attention_work(model, ids)))
    everything = sum(macs for _, _, macs in work)
    tables.table(
        ("kernel", "products", "multiply-accumulates", "share"), [(*row, f"{row[2] / everything:.1%}") for row in work]
    )

    agreement = compare_kernels(model, ids[:1])
    same = not any(agreement.different.values())
    tables.heading(
        f"The first sentence again: {agreement.products} products, {agreement.integers:,} integers, by every kernel"
    )
    tables.table(
        ("kernel", "sum of all integers", "different from the first"),
        [(name, agreement.sums[name], agreement.different[name]) for name in agreement.kernels],
    )
    names = ", ".join(agreement.kernels)
    if len(agreement.kernels) == 1:
        print(f"\nOnly {names} runs on this machine, so there is nothing to compare it with.")
    else:
        print(f"\n{'Identical integers' if same else 'DIFFERENT integers'}: {names}.")
    return 0 if same and close else 1


def show_kernels() -> None:
    """Print which kernel runs, why, and what is with the others."""
    info = kernel_info()
    tables.heading(f"Kernel: {info['chosen']}, because {info['why']}")
    tables.table(
        ("kernel", "runs here", "why", "what it is"),
        [(name, row["runs"], row["why"], row["summary"]) for name, row in info["kernels"].items()],
    )


def show_neighbours(sentences: Sequence[str], vectors: FloatArray, cosines: FloatArray) -> None:
    """Print each sentence with its nearest one."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = similarity.argmax(axis=1)
    tables.table(
        ("sentence", "nearest", "similarity", "cosine to float32"),
        [
            (sentence, sentences[other], float(similarity[i, other]), float(cosines[i]))
            for i, (sentence, other) in enumerate(zip(sentences, nearest, strict=True))
        ],
    )


def main(arguments: list[str]) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : list of str
        See ``--help``.

    Returns
    -------
    int
        Exit code: 1 if something differs or the extra is not installed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pyint8dot demo",
        description="Embed real sentences by an int8 MiniLM, and run two whole ONNX models, on every kernel that this machine runs.",
    )
    parser.add_argument(
        "--length", type=int, default=LENGTH, help="tokens a sentence is padded to (default %(default)s)"
    )
    parser.add_argument("--no-models", action="store_true", help="leave out the A/B of the two ONNX models")
    options = parser.parse_args(arguments)
    try:
        code = run(length=options.length)
        return code if options.no_models or compare_models.compare() else 1
    except (ModuleNotFoundError, ValueError) as error:
        print(f"pyint8dot demo: {error}", file=sys.stderr)
        return 1
