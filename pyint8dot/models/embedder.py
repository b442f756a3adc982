"""`Embedder`: batches of text in, the same batches with their embeddings out, on whatever machine it is sent to."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pyint8dot.models.minilm import MAX_LENGTH, MiniLM

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Embedder"]


@functools.lru_cache(maxsize=1)
def _model(max_seq_length: int) -> MiniLM:
    """The model of this process: a pickle holds none, and tasks that come one after the other share it."""
    return MiniLM.load(max_seq_length=max_seq_length)


class Embedder:
    """Embeds the texts of batches by an int8 MiniLM.

    Made for programs that cut a corpus into batches and send what works on them to many machines, such as Dask, Ray Data, Daft and
    Spark: its pickle is small, and the model is loaded where it is made or unpickled, once in a process.

    Parameters
    ----------
    column : str
        The texts of a batch.
    output : str
        What their embeddings are called.
    batch_size : int
        Sentences computed at a time.
    max_seq_length : int
        Tokens kept of each text.

    Raises
    ------
    ModuleNotFoundError
        If the extra is not installed: ``pip install "pyint8dot[models]"``.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> embed = Embedder("text", "vector")
    >>> batch = embed({"text": ["Cats purr.", "Rates rose."], "page": [1, 2]})
    >>> list(batch), batch["vector"].shape
    (['text', 'page', 'vector'], (2, 384))
    """

    def __init__(
        self, column: str = "text", output: str = "embedding", *, batch_size: int = 32, max_seq_length: int = MAX_LENGTH
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        self._column, self._output = column, output
        self._batch_size, self._max_seq_length = batch_size, max_seq_length
        self._model = _model(max_seq_length)

    def __repr__(self) -> str:
        return f"Embedder({self._column!r}, {self._output!r})"

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Embed the texts of a batch.

        Parameters
        ----------
        batch : mapping of str to array_like
            Columns of one length: a dict of arrays, or a data frame.

        Returns
        -------
        dict
            The columns as they were, and the embeddings: ndarray of float32, shape (n, 384).

        Raises
        ------
        KeyError
            If the batch has no such column.
        TypeError
            If something else than str is to be embedded.
        """
        if self._column not in batch:
            raise KeyError(f"the batch has no column {self._column!r}; it has {', '.join(map(repr, batch))}")
        texts = list(batch[self._column])
        return {**batch, self._output: self._model.encode(texts, self._batch_size)}

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"batch_size": self._batch_size, "max_seq_length": self._max_seq_length}
        return _made, (self._column, self._output, options)


def _made(column: str, output: str, options: dict[str, int]) -> Embedder:
    return Embedder(column, output, **options)
