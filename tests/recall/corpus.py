"""Real sentences that every machine has, the docstrings of Python's standard library, and their embeddings, made once."""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
from pathlib import Path

import numpy as np
import numpy.typing as npt
from emulation import layout
from rich.progress import track

from pyint8dot.models import MiniLM

#: Characters of a sentence; what is shorter is mostly a signature.
SHORTEST, LONGEST = 16, 300
STEP = 256


def sentences(count: int) -> list[str]:
    """Return as many different sentences, the same ones for the same Python, in no order of meaning.

    Raises
    ------
    ValueError
        There are fewer.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    found: set[str] = set()
    for path in sorted(library.rglob("*.py")):
        if {"site-packages", "dist-packages", "test", "tests"} & set(path.parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.update(_cut(ast.get_docstring(node) or ""))
    if len(found) < count:
        raise ValueError(f"the standard library has {len(found)} sentences, not {count}")
    return sorted(found, key=lambda text: hashlib.sha256(text.encode()).digest())[:count]


def _cut(text: str) -> list[str]:
    """The sentences of a docstring."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    each = (sentence for paragraph in paragraphs for sentence in re.split(r"(?<=[.!?])\s+", paragraph))
    return [sentence for sentence in each if SHORTEST <= len(sentence) <= LONGEST]


def embedded(texts: list[str]) -> npt.NDArray[np.float32]:
    """Return the float32 embeddings of sentences; those that were made before are kept in ``.arm64/recall``."""
    name = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    place = layout.HOME / "recall" / f"{name}.npy"
    if not place.exists():
        model = MiniLM.load()
        steps = track(range(0, len(texts), STEP), f"Embedding {len(texts)} sentences")
        vectors = np.concatenate([model.encode(texts[start : start + STEP]) for start in steps])
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(".new.npy")
        np.save(draft, vectors)
        draft.replace(place)
    found: npt.NDArray[np.float32] = np.load(place)
    return found
