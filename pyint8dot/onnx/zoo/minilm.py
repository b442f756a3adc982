"""all-MiniLM-L6-v2 as an ONNX graph, from the weights of an installed package."""

from __future__ import annotations

import math

import numpy as np
import onnx

from pyint8dot.models import checkpoint
from pyint8dot.onnx.zoo.builder import Builder

HIDDEN, HEADS, LAYERS = 384, 12, 6
EPSILON = 1e-12
VOCABULARY = 30522


def float_model() -> onnx.ModelProto:
    """Write the float32 model.

    Inputs `input_ids`, `attention_mask` and `token_type_ids`, int64 of shape (batch, sequence); outputs
    `last_hidden_state`, float32 (batch, sequence, 384), and `sentence_embedding`, float32 (batch, 384), of unit length.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ModuleNotFoundError
        If the package with the weights is not installed.
    """
    tensors = checkpoint.read_safetensors(
        checkpoint.package_folder(checkpoint.FLOAT_PACKAGE) / "model" / "model.safetensors"
    )
    g = Builder("all-MiniLM-L6-v2")
    ids, mask, kinds = (
        g.input(n, np.int64, ["batch", "sequence"]) for n in ("input_ids", "attention_mask", "token_type_ids")
    )

    def constant(name: str) -> str:
        return g.constant(name, tensors[name])

    def norm(x: str, name: str, output: str) -> str:
        inputs = [x, constant(f"{name}.weight"), constant(f"{name}.bias")]
        return g.add("LayerNormalization", inputs, output, axis=-1, epsilon=EPSILON)

    def linear(x: str, name: str) -> str:
        product = g.add("MatMul", [x, constant(f"{name}.weight")], f"{name}.product")
        return g.add("Add", [product, constant(f"{name}.bias")], name)

    # Embeddings: words, positions up to the length of the sequence, token types.
    zero, one = g.constant("zero", [0], np.int64), g.constant("one", [1], np.int64)
    length = g.add("Shape", [ids], "length", start=1, end=2)
    positions = g.add("Slice", [constant("embeddings.position_embeddings.weight"), zero, length, zero], "positions")
    words = g.add("Gather", [constant("embeddings.word_embeddings.weight"), ids], "words")
    types = g.add("Gather", [constant("embeddings.token_type_embeddings.weight"), kinds], "types")
    x = g.add("Add", [g.add("Add", [words, types], "words and types"), positions], "embeddings")
    x = norm(x, "embeddings.LayerNorm", "hidden.0")

    # The mask adds the lowest float to the score of a padded token.
    present = g.add("Cast", [mask], "present", to=onnx.TensorProto.FLOAT)
    wide = g.add("Unsqueeze", [present, g.constant("mask axes", [1, 2], np.int64)], "present, wide")
    absent = g.add("Sub", [g.constant("1.0", 1, np.float32), wide], "absent")
    offset = g.add("Mul", [absent, g.constant("lowest", np.finfo(np.float32).min, np.float32)], "mask offset")

    heads = g.constant("heads shape", [0, 0, HEADS, HIDDEN // HEADS], np.int64)
    whole = g.constant("whole shape", [0, 0, HIDDEN], np.int64)
    scale = g.constant("score scale", 1 / math.sqrt(HIDDEN // HEADS), np.float32)
    for i in range(LAYERS):
        p = f"encoder.layer.{i}"

        def split(name: str, perm: list[int], x: str = x, p: str = p) -> str:
            y = linear(x, f"{p}.attention.self.{name}")
            y = g.add("Reshape", [y, heads], f"{p}.{name} heads")
            return g.add("Transpose", [y], f"{p}.{name}", perm=perm)

        query, key, value = split("query", [0, 2, 1, 3]), split("key", [0, 2, 3, 1]), split("value", [0, 2, 1, 3])
        scores = g.add("MatMul", [query, key], f"{p}.scores")
        scores = g.add("Mul", [scores, scale], f"{p}.scores scaled")
        scores = g.add("Add", [scores, offset], f"{p}.scores masked")
        attention = g.add("Softmax", [scores], f"{p}.attention", axis=-1)
        context = g.add("MatMul", [attention, value], f"{p}.context heads")
        context = g.add("Transpose", [context], f"{p}.context transposed", perm=[0, 2, 1, 3])
        context = g.add("Reshape", [context, whole], f"{p}.context")
        y = linear(context, f"{p}.attention.output.dense")
        x = norm(g.add("Add", [y, x], f"{p}.attention sum"), f"{p}.attention.output.LayerNorm", f"{p}.attended")
        y = _gelu(g, linear(x, f"{p}.intermediate.dense"), f"{p}.gelu")
        y = linear(y, f"{p}.output.dense")
        last = i == LAYERS - 1
        name = "last_hidden_state" if last else f"hidden.{i + 1}"
        x = norm(g.add("Add", [y, x], f"{p}.output sum"), f"{p}.output.LayerNorm", name)

    # The mean over the tokens that are there, brought to unit length.
    column = g.add("Unsqueeze", [present, g.constant("last axis", [-1], np.int64)], "present column")
    total = g.add("ReduceSum", [g.add("Mul", [x, column], "present states"), one], "state sum", keepdims=0)
    count = g.add("ReduceSum", [column, one], "count", keepdims=0)
    mean = g.add("Div", [total, count], "mean state")
    size = g.add("ReduceL2", [mean, one], "size", keepdims=1)
    g.add("Div", [mean, size], "sentence_embedding")
    g.output("last_hidden_state", np.float32, ["batch", "sequence", HIDDEN])
    g.output("sentence_embedding", np.float32, ["batch", HIDDEN])
    return g.model()


def token_feed(seed: int, batch: int = 2, length: int = 0) -> dict[str, np.ndarray]:
    """Make seeded input: random tokens between the two marks that every text has.

    Parameters
    ----------
    seed : int
        Which one.
    batch, length : int
        Texts, and tokens in each; a length of 0 takes 8, 16, 32, 64 or 128 by the seed.

    Returns
    -------
    dict
        The three inputs of the model.
    """
    rng = np.random.default_rng(seed)
    ids = rng.integers(1000, VOCABULARY, (batch, length or 8 << seed % 5))
    ids[:, 0], ids[:, -1] = 101, 102
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _gelu(g: Builder, x: str, name: str) -> str:
    """Write GELU as exporters do: x * (erf(x / sqrt(2)) + 1) * 0.5."""
    g.constant("sqrt 2", math.sqrt(2), np.float32)
    g.constant("half", 0.5, np.float32)
    y = g.add("Erf", [g.add("Div", [x, "sqrt 2"], f"{name}.scaled")], f"{name}.erf")
    y = g.add("Mul", [x, g.add("Add", [y, "1.0"], f"{name}.plus")], f"{name}.product")
    return g.add("Mul", [y, "half"], name)
