"""An index on disk: a folder of plain ``.npy`` files and a header, ``index.json``.

The header says everything the files do not: the version of the format, dimension, metric, what is kept for rescoring, and for
each part its layout, how many vectors it has and its files, each with its size and the CRC-32 of its bytes; last the CRC-32 of the
header itself. The files of a part are

=============  =========  =====================================================================
``panels``     int8       the vectors, packed in the part's layout; one dimension
``factors``    float32    what a score takes from each vector; NaN for one that was removed
``ids``        int64
``float32``    float32    the vectors as they were given, shape (count, dim), where they are kept
``int8``       int8       the second digit of every value, likewise
=============  =========  =====================================================================

Files are never changed: what is written anew gets a new name, the header replaces the one before in a single step, and files
that it does not name are deleted then. So a reader sees the index as it was before or as it is after, and an index to which
vectors were added writes those alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyint8dot.engine import layouts
from pyint8dot.engine.kernels import EXACT_K
from pyint8dot.search.part import Part
from pyint8dot.search.vectors import KEEPS, METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyint8dot.engine.layouts import Layout

__all__ = ["Contents", "IndexFileError", "read", "write"]

FORMAT, VERSION = "pyint8dot.search", 1
HEADER = "index.json"

#: What a file is called: what it holds, and a number that nothing else has.
NAME = re.compile(r"(panels|factors|ids|float32|int8)-[0-9a-f]{16}\.npy")

#: Bytes that are read at a time to see whether a file is as it was written.
PIECE = 1 << 20


class IndexFileError(ValueError):
    """A saved index is not what its header says, or what is in the folder is none."""


class Contents(NamedTuple):
    """What is saved of an index."""

    dim: int
    metric: str
    keep: str | None
    ascending: bool
    following: int
    parts: list[Part]


class Stored(NamedTuple):
    """A file that has an array."""

    folder: str
    name: str
    size: int
    crc: int


def write(folder: Path, contents: Contents) -> None:
    """Write what the folder does not have yet, then its header."""
    folder.mkdir(parents=True, exist_ok=True)
    place = str(folder.resolve())
    rows = []
    for part in contents.parts:
        # Read once: a search in another thread may bring the vectors into another layout meanwhile.
        layout, panels = part.packed
        files = {}
        for name, array in _arrays(part, layout, panels).items():
            key = layout.name if name == "panels" else name
            stored = part.files.get(key)
            if stored is None or stored.folder != place or not _is_there(stored):
                stored = part.files[key] = _write_array(folder, place, name, array)
            files[name] = [stored.name, stored.size, stored.crc]
        rows.append({"count": part.count, "layout": layout.name, "files": files})
    header = {
        "format": FORMAT, "version": VERSION, "dim": contents.dim, "metric": contents.metric, "keep": contents.keep,
        "ascending": contents.ascending, "next": contents.following, "parts": rows,
    }  # fmt: skip
    text = json.dumps({**header, "crc": _crc_of(header)}, indent=1) + "\n"
    _replace(folder / HEADER, text.encode())
    named = {name for row in rows for name, _, _ in row["files"].values()}  # type: ignore[attr-defined]  # a dict
    for path in folder.glob("*.npy"):
        if NAME.fullmatch(path.name) and path.name not in named:
            # Another process may have it open where that forbids to delete it.
            with contextlib.suppress(OSError):
                path.unlink()


def _arrays(part: Part, layout: Layout, panels: NDArray[np.int8]) -> dict[str, NDArray[Any]]:
    """The arrays of a part without the room for more vectors."""
    n = part.count
    arrays: dict[str, NDArray[Any]] = {
        "panels": panels[: layout.size(part.dim, n)],
        "factors": part.factors[:n],
        "ids": part.ids[:n],
    }
    arrays.update((name, rows[:n]) for name, rows in part.more.items())
    return arrays


def _is_there(stored: Stored) -> bool:
    """Whether nobody has deleted a file, as saving another index to its folder does."""
    path = Path(stored.folder, stored.name)
    return path.is_file() and path.stat().st_size == stored.size


def _write_array(folder: Path, place: str, name: str, array: NDArray[Any]) -> Stored:
    path = folder / f"{name}-{secrets.token_hex(8)}.npy"
    try:
        with path.open("xb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Stored(place, path.name, path.stat().st_size, _crc_of_file(path))


def _replace(path: Path, content: bytes) -> None:
    """Write a file in a single step: it is there as it was or as it is to be."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    # Where folders can be opened, the new name is on the disk before anybody counts on it.
    with contextlib.suppress(OSError):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(folder: Path, *, mmap: bool, verify: bool) -> Contents:
    """Read an index; with `mmap` its arrays stay on the disk.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or no index in it.
    IndexFileError
        A file is missing, or it is not as it was written.
    """
    header = _header(folder)
    try:
        dim, keep = header["dim"], header["keep"]
        contents = Contents(dim, header["metric"], keep, header["ascending"], header["next"], [])
        for row in header["parts"]:
            contents.parts.append(_part(folder, row, dim, keep, mmap=mmap, verify=verify))
    except (KeyError, TypeError) as error:
        # Its checksum is right, so that another program has written it.
        raise IndexFileError(f"{folder / HEADER} describes no index: {error!r}") from error
    return contents


def _header(folder: Path) -> dict[str, Any]:
    path = folder / HEADER
    if not path.exists():
        raise FileNotFoundError(f"there is no index in {folder}: it has no {HEADER}")
    try:
        header = json.loads(path.read_bytes())
        # JSON has other values than an object, and objects without these.
        kind, version, crc = header["format"], header["version"], header.pop("crc")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise IndexFileError(f"{path} is not the header of an index: {error}") from error
    if kind != FORMAT or version != VERSION:
        raise IndexFileError(
            f"{path} is of the format {kind!r}, version {version!r}; this is {FORMAT!r}, version {VERSION}"
        )
    if crc != _crc_of(header):
        raise IndexFileError(f"{path} is not as it was written: its checksum differs")
    dim, following = header.get("dim"), header.get("next")
    fine = type(dim) is int and 1 <= dim <= EXACT_K and type(following) is int and following >= 0
    kinds = header.get("metric") in METRICS and header.get("keep", "") in (None, *KEEPS)
    if not fine or not kinds or type(header.get("ascending")) is not bool:
        raise IndexFileError(f"{path} describes no index")
    return dict(header)


def _part(folder: Path, row: dict[str, Any], dim: int, keep: str | None, *, mmap: bool, verify: bool) -> Part:
    try:
        layout = layouts.layout(row["layout"])
    except ValueError as error:
        raise IndexFileError(f"{folder} was written for a layout that this version does not know: {error}") from error
    count = row["count"]
    if type(count) is not int or count < 0:
        raise IndexFileError(f"{folder / HEADER} has a part of {count!r} vectors")
    part = Part(dim, layout, {})
    shapes: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "panels": ((layout.size(dim, count),), np.int8),
        "factors": ((count,), np.float32),
        "ids": ((count,), np.int64),
        "float32": ((count, dim), np.float32),
        "int8": ((count, dim), np.int8),
    }
    arrays = {}
    for name in ("panels", "factors", "ids", *filter(None, (keep,))):
        stored = Stored(str(folder.resolve()), *row["files"][name])
        arrays[name] = _array(folder, stored, *shapes[name], mmap=mmap, verify=verify)
        part.files[layout.name if name == "panels" else name] = stored
    part.packed = layout, arrays["panels"]
    part.factors, part.ids = arrays["factors"], arrays["ids"]
    part.more = {name: arrays[name] for name in filter(None, (keep,))}
    part.count, part.mapped = count, mmap
    part.dead = int(np.count_nonzero(np.isnan(part.factors)))
    return part


def _array(
    folder: Path, stored: Stored, shape: tuple[int, ...], dtype: type[np.generic], *, mmap: bool, verify: bool
) -> NDArray[Any]:
    if not NAME.fullmatch(stored.name):
        raise IndexFileError(f"{folder} names a file that is none of an index: {stored.name!r}")
    path = folder / stored.name
    if not path.exists():
        raise IndexFileError(f"{path} is missing")
    if (size := path.stat().st_size) != stored.size:
        raise IndexFileError(f"{path} has {size} bytes instead of {stored.size}")
    if verify and _crc_of_file(path) != stored.crc:
        raise IndexFileError(f"{path} is not as it was written: its checksum differs")
    try:
        # An empty array cannot be mapped.
        if mmap and 0 not in shape:
            found: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
        else:
            with path.open("rb") as file:
                found = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the head of such a file is read as Python's source, which fails in many ways
        raise IndexFileError(f"{path} is no array: {error}") from error
    # What is read past the end of an array would be a crash, so this is looked at even where nothing is verified.
    if found.shape != shape or found.dtype != dtype or not found.flags.c_contiguous:
        raise IndexFileError(f"{path} has {found.dtype} of shape {found.shape} instead of {np.dtype(dtype)} of {shape}")
    return np.asarray(found)


def _crc_of(header: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(header, sort_keys=True).encode())


def _crc_of_file(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            crc = zlib.crc32(piece, crc)
    return crc
