"""An index on disk: the same searches from memory and from the map, additions without rewriting, and every file that is not as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from pyint8dot.engine import layouts
from pyint8dot.search import Index, IndexFileError, files
from pyint8dot.search.part import native_layout

ROOT = Path(__file__).resolve().parents[1]


def floats(rng, n, dim=24):
    return rng.standard_normal((n, dim)).astype(np.float32)


def same(one, two, q, **options):
    for a, b in zip(one.search(q, 9, **options), two.search(q, 9, **options), strict=True):
        np.testing.assert_array_equal(a, b)


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("keep", [None, "float32", "int8"])
@pytest.mark.parametrize("mmap", [False, True])
def test_comes_back_as_it_was(rng, tmp_path, keep, mmap):
    x, q = floats(rng, 700), floats(rng, 5)
    index = Index(x, metric="ip", keep=keep, ids=rng.permutation(900)[:700])
    index.remove(index.ids[:50])
    index.save(tmp_path / "new" / "folder")
    found = Index.open(tmp_path / "new" / "folder", mmap=mmap)
    assert (len(found), found.dim, found.metric, found.keep) == (650, 24, "ip", keep)
    np.testing.assert_array_equal(found.ids, index.ids)
    same(index, found, q, rescore=keep is not None)
    np.testing.assert_array_equal(index.reconstruct(index.ids), found.reconstruct(index.ids))
    # It goes on like the one that was saved.
    for each in (index, found):
        each.add(x[:3])
        assert each.remove(each.ids[:20]) == 20
    np.testing.assert_array_equal(found.ids, index.ids)
    same(index, found, q)


def test_an_empty_index(tmp_path):
    Index(dim=7).save(tmp_path)
    found = Index.open(tmp_path)
    assert (len(found), found.dim) == (0, 7)
    found.add(np.ones((2, 7)))
    found.save(tmp_path)
    assert len(Index.open(tmp_path)) == 2


def test_additions_are_written_alone(rng, tmp_path):
    x, q = floats(rng, 900), floats(rng, 4)
    Index(x[:600]).save(tmp_path)
    before = names(tmp_path)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in before - {files.HEADER}}
    index = Index.open(tmp_path)
    index.add(x[600:])
    index.save(tmp_path)
    after = names(tmp_path)
    assert before < after
    assert len(after) == len(before) + 3
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in times} == times
    same(Index.open(tmp_path), Index(x), q)
    # Of a part whose vectors were removed the factors alone are written; nothing that is not named stays.
    index.remove([5])
    index.save(tmp_path)
    assert len(names(tmp_path)) == len(after)
    assert after - names(tmp_path) == {name for name in before if name.startswith("factors")}
    assert 5 not in Index.open(tmp_path)


def test_saved_elsewhere_it_is_whole(rng, tmp_path):
    index = Index(floats(rng, 50))
    index.save(tmp_path / "a")
    opened = Index.open(tmp_path / "a")
    opened.save(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    same(Index.open(tmp_path / "b"), index, floats(rng, 3))


@pytest.mark.parametrize("mmap", [False, True])
def test_another_layout(rng, tmp_path, monkeypatch, mmap):
    """What one machine saved for its kernels another searches with its own; columns of all its parts are found."""
    x, q = floats(rng, 1500), floats(rng, 6)
    other = layouts.layout(f"{type(native_layout()).__name__}(6)")
    with monkeypatch.context() as patch:
        patch.setattr("pyint8dot.search.collection.native_layout", lambda: other)
        index = Index(x[:1100])
        index.save(tmp_path)
    assert json.loads((tmp_path / files.HEADER).read_text())["parts"][0]["layout"] == other.name
    found = Index.open(tmp_path, mmap=mmap)
    found.add(x[1100:])
    for count in (1, 3):
        same(found, Index(x), q, num_threads=count)
        same(found, Index(x), q, num_threads=count, filter=lambda ids: ids % 3 > 0)
    np.testing.assert_array_equal(found.reconstruct([0, 1099, 1100]), Index(x).reconstruct([0, 1099, 1100]))


def changed_header(folder, **changes):
    """A header that says something else, with a checksum that is right."""
    path = folder / files.HEADER
    header = json.loads(path.read_text())
    header.update(changes)
    header.pop("crc")
    crc = zlib.crc32(json.dumps(header, sort_keys=True).encode())
    path.write_text(json.dumps({**header, "crc": crc}))


def some(folder, name):
    return next(path for path in folder.iterdir() if path.name.startswith(name))


def flip(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def retold(folder, old, new):
    """A header that says something else, with the checksum of what it said."""
    path = folder / files.HEADER
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def renamed(folder):
    """The header names a file outside the folder."""
    parts = json.loads((folder / files.HEADER).read_text())["parts"]
    parts[0]["files"]["ids"][0] = "../ids.npy"
    changed_header(folder, parts=parts)


def without(folder):
    """The header lacks a file of a part."""
    parts = json.loads((folder / files.HEADER).read_text())["parts"]
    del parts[0]["files"]["ids"]
    changed_header(folder, parts=parts)


def uncounted(folder):
    """The header says no number of vectors."""
    parts = json.loads((folder / files.HEADER).read_text())["parts"]
    changed_header(folder, parts=[{**parts[0], "count": "300"}])


def fewer(folder):
    """The header says other sizes of arrays than the files have."""
    parts = json.loads((folder / files.HEADER).read_text())["parts"]
    parts[0]["count"] += 100
    changed_header(folder, parts=parts)


DAMAGE = {
    "truncated panels": ("has .* bytes instead of", lambda f: os.truncate(some(f, "panels"), 500)),
    "truncated ids": ("has .* bytes instead of", lambda f: os.truncate(some(f, "ids"), 100)),
    "a bit": ("not as it was written", lambda f: flip(some(f, "panels"), 1000)),
    "a bit of the factors": ("not as it was written", lambda f: flip(some(f, "factors"))),
    "missing": ("is missing", lambda f: some(f, "ids").unlink()),
    "the header": ("not as it was written", lambda f: retold(f, '"cosine"', '"ip"')),
    "no JSON": ("not the header of an index", lambda f: (f / files.HEADER).write_text("{")),
    "a list": ("not the header of an index", lambda f: (f / files.HEADER).write_text("[1]")),
    "other JSON": ("not the header of an index", lambda f: (f / files.HEADER).write_text("{}")),
    "newer": ("version 2; this is", lambda f: changed_header(f, version=2)),
    "another format": ("of the format 'x'", lambda f: changed_header(f, format="x")),
    "another metric": ("describes no index", lambda f: changed_header(f, metric="l2")),
    "another dim": ("instead of int8 of", lambda f: changed_header(f, dim=100)),
    "no dim": ("describes no index", lambda f: changed_header(f, dim=None)),
    "no next id": ("describes no index", lambda f: changed_header(f, next="1")),
    "no order": ("describes no index", lambda f: changed_header(f, ascending=1)),
    "no parts": ("describes no index", lambda f: changed_header(f, parts=None)),
    "a part without a file": ("describes no index", without),
    "a part without a count": ("a part of '300' vectors", uncounted),
    "deep": ("not the header of an index", lambda f: (f / files.HEADER).write_text("[" * 200_000)),
    "outside": ("none of an index", renamed),
    "sizes": ("instead of int8 of", fewer),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("mmap", [False, True])
def test_damage_is_told(rng, tmp_path, damage, mmap):
    Index(floats(rng, 300)).save(tmp_path)
    words, do = DAMAGE[damage]
    do(tmp_path)
    with pytest.raises(IndexFileError, match=words):
        Index.open(tmp_path, mmap=mmap)


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x93NUMPY\x01\x00\x76\x00{'descr': ("])
@pytest.mark.parametrize("mmap", [False, True])
def test_what_numpy_cannot_read_is_told_without_a_checksum(rng, tmp_path, head, mmap):
    """Heads that numpy fails on in ways of its own: that of an archive, a bracket that stays open."""
    Index(floats(rng, 300)).save(tmp_path)
    path = some(tmp_path, "ids")
    path.write_bytes(head + path.read_bytes()[len(head) :])
    with pytest.raises(IndexFileError, match="is no array"):
        Index.open(tmp_path, mmap=mmap, verify=False)


def test_a_search_brings_the_vectors_into_another_layout_in_mid_save(rng, tmp_path, monkeypatch):
    """What is written stands for the other thread, so that this happens every time."""
    x, q = floats(rng, 300), floats(rng, 2)
    index = Index(x)
    [part] = index._parts
    other = layouts.layout("PackedI8K16(4)" if part.layout.name != "PackedI8K16(4)" else "PackedI8K4(8)")
    written = files._crc_of_file

    def converted(path):
        if part.layout.name != other.name:
            part.convert(other)
        return written(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_crc_of_file", converted)
        index.save(tmp_path)
    for _ in range(2):
        same(Index.open(tmp_path), Index(x), q)
        # The next one writes what the vectors are in now.
        index.save(tmp_path)
    assert json.loads((tmp_path / files.HEADER).read_text())["parts"][0]["layout"] == other.name


def test_files_that_are_gone_are_written_again(rng, tmp_path):
    """Another index was saved to the folder meanwhile, or the folder was deleted."""
    x, q = floats(rng, 300), floats(rng, 2)
    one, other = Index(x), Index(x[:50])
    for index in (one, other, one):
        index.save(tmp_path / "index")
        same(Index.open(tmp_path / "index"), index, q)
    shutil.rmtree(tmp_path / "index")
    one.save(tmp_path / "index")
    same(Index.open(tmp_path / "index"), one, q)


def test_a_layout_that_is_not_known(rng, tmp_path):
    Index(floats(rng, 30)).save(tmp_path)
    parts = json.loads((tmp_path / files.HEADER).read_text())["parts"]
    changed_header(tmp_path, parts=[{**parts[0], "layout": "PackedI9K9(8)"}])
    with pytest.raises(IndexFileError, match="layout that this version does not know"):
        Index.open(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no index in"):
        Index.open(tmp_path / "nowhere")


def test_what_fails_leaves_what_was_there(rng, tmp_path, monkeypatch):
    """Written to the last file but the header, or to the header's draft."""
    x, q = floats(rng, 80), floats(rng, 2)
    Index(x).save(tmp_path)
    before = names(tmp_path)
    for broken in ("_crc_of_file", "_replace"):
        index = Index.open(tmp_path)
        index.add(x)
        with monkeypatch.context() as patch:
            patch.setattr(files, broken, lambda *_: (_ for _ in ()).throw(OSError("full")))
            with pytest.raises(OSError, match="full"):
                index.save(tmp_path)
        assert before <= names(tmp_path)
        same(Index.open(tmp_path), Index(x), q)
    # The next one that comes to an end clears away what was left.
    Index.open(tmp_path).save(tmp_path)
    assert names(tmp_path) == before


CHILD = """
import resource, sys
import numpy as np
from pyint8dot.search import Index
index = Index.open(sys.argv[1], verify=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scores, ids = index.search(np.load(sys.argv[2]), 10)
with open("/proc/self/status") as file:
    anonymous = next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))
print(ids[0, 0], anonymous)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists() or "QEMU_CPU" in os.environ, reason="memory is read from Linux's /proc"
)
def test_a_mapped_corpus_takes_no_memory(rng, tmp_path):
    """1 GB is searched with less than 80 MB of the process's own, numpy included; pages of files are the system's to take back."""
    index, block = Index(dim=1024), rng.integers(-127, 128, (65536, 1024), dtype=np.int8)
    for shift in range(15):
        index.add(np.roll(block, shift, axis=1))
    assert index.nbytes > 1e9
    index.save(tmp_path / "index")
    q = index.reconstruct([123_456])
    np.save(tmp_path / "q.npy", q)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "index"), str(tmp_path / "q.npy")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    shutil.rmtree(tmp_path / "index")  # pytest keeps the folders of several runs
    best, anonymous = map(int, done.stdout.split())
    assert best == 123_456
    assert anonymous < 80_000
