"""The matrix that is packed once and used many times."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import rows
from support.packed import defined, some

from pyint8dot import matmul
from pyint8dot.engine import dispatch, layouts, packing
from pyint8dot.engine.kernels import KERNELS
from pyint8dot.engine.packing import PackedMatrix, RowMajor, pack
from pyint8dot.errors import KernelError

pytestmark = pytest.mark.each_processor

LAYOUTS = [*rows.PACKED, RowMajor()]

# Layouts that no kernel reads.
ODD = [family(3) for family in rows.FAMILIES]

BOTH = pytest.mark.parametrize("dtype", [np.int8, np.uint8])


def matrix(k, n, dtype=np.int8):
    return some(k, n).view(dtype)


def moved(b):
    """The values of b as int8, uint8 less 128, in int64."""
    return b.astype(np.int64) - (128 if b.dtype == np.uint8 else 0)


@BOTH
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("k", "n"), [(0, 0), (0, 3), (3, 0), (1, 1), (5, 13), (64, 8), (33, 40)])
def test_a_packed_matrix_holds_the_matrix(layout, dtype, k, n):
    b = matrix(k, n, dtype)
    packed = PackedMatrix(b, layout.name)
    assert (packed.shape, packed.dtype, packed.layout, packed.ndim) == ((k, n), np.dtype(dtype), layout.name, 2)
    assert np.array_equal(packed.data, defined(layout, moved(b).astype(np.int8)))
    assert packed.column_sums.dtype == np.int32
    assert np.array_equal(packed.column_sums, moved(b).sum(axis=0))
    assert packed.nbytes == packed.data.nbytes + 4 * n
    back = packed.unpack()
    assert back.dtype == dtype
    assert np.array_equal(back, b)
    assert back.flags.writeable
    assert not np.shares_memory(back, packed.data)


@BOTH
@pytest.mark.parametrize("view", [lambda b: b.T, lambda b: b[::-1, ::-2], np.asfortranarray, lambda b: b[3:, 1:]])
def test_any_view_is_packed(dtype, view):
    b = view(matrix(30, 21, dtype))
    packed = pack(b)
    assert np.array_equal(packed.unpack(), b)
    assert np.array_equal(packed.column_sums, moved(b).sum(axis=0))


def test_it_is_a_copy():
    b = matrix(9, 9)
    packed = pack(b)
    b[:] = 0
    assert np.array_equal(packed.unpack(), matrix(9, 9))


def test_sums_wrap():
    """Only beyond 2**24 rows, which a broadcast view has without having the memory."""
    k = 2**24 + 5
    column = np.broadcast_to(np.array([[-128]], np.int8), (k, 1))
    sums = PackedMatrix(column, "RowMajor").column_sums
    assert sums[0] == (-128 * k + 2**31) % 2**32 - 2**31


@BOTH
@pytest.mark.parametrize(("k", "n"), [(384, 384), (384, 1536), (1000, 1001)])
def test_it_is_hardly_larger_than_the_matrix(k, n, dtype):
    b = matrix(k, n, dtype)
    for layout in LAYOUTS:
        assert b.nbytes <= PackedMatrix(b, layout.name).nbytes <= 1.03 * b.nbytes


def test_it_is_immutable():
    packed = pack(matrix(4, 4))
    for name in ("shape", "dtype", "layout", "data", "anything"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(packed, name, None)
    with pytest.raises(AttributeError, match="immutable"):
        del packed.shape
    with pytest.raises(AttributeError, match="immutable"):
        packed.__init__(matrix(5, 5))
    for array in (packed.data, packed.column_sums, *(packed._store.in_layout(row.right) for row in KERNELS.values())):
        assert not array.flags.writeable
    # Nor can what a user holds be made writeable.
    for array in (packed.data, packed.column_sums):
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            array.setflags(write=True)


@BOTH
@pytest.mark.parametrize("layout", [*LAYOUTS, *ODD], ids=str)
@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
def test_it_serves_every_kernel(layout, row, dtype):
    b = matrix(13, 21, dtype)
    packed = PackedMatrix(b, layout.name)
    expected = defined(row.right, moved(b).astype(np.int8))
    converted = packed._store.in_layout(row.right)
    assert np.array_equal(converted, expected)
    assert converted.ctypes.data % 64 == 0
    assert packed._store.in_layout(row.right) is converted
    assert packed.layout == layout.name
    held = {layout.name: packed.data.nbytes, row.right.name: converted.nbytes}
    assert packed.nbytes == sum(held.values()) + 4 * 21


@BOTH
@pytest.mark.parametrize("k", [0, 1, 37, 100])
@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=pytest.mark.native) for row in rows.NATIVE if row.complement],
    ids=lambda row: row.name,
)
def test_what_complemented_rows_bring_is_summed_once(row, k, dtype):
    """For a kernel whose left operand comes complemented, the sums over upper halves of K groups are made with the matrix and counted."""
    n = 21
    b = matrix(k, n, dtype)
    packed = PackedMatrix(b, row.right.name)
    before = packed.nbytes
    sums = packed._store.surplus(row)
    assert sums is packed._store.surplus(row)
    assert sums.tolist() == row.right.upper_sums(moved(b).astype(np.int8)).tolist()
    assert not sums.flags.writeable
    assert packed.nbytes == before + 4 * n


def test_many_threads_get_the_same_conversion(monkeypatch):
    packed = PackedMatrix(matrix(64, 64), "RowMajor")
    calls = []
    real = layouts.pack_into
    monkeypatch.setattr(layouts, "pack_into", lambda *args: calls.append(args[0].name) or real(*args))
    start = threading.Barrier(8)

    def work(_):
        start.wait(60)
        return [packed._store.in_layout(row.right) for row in KERNELS.values() if row.native]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert all(mine is first for result in results for mine, first in zip(result, results[0], strict=True))
    assert set(calls) == {row.right.name for row in KERNELS.values() if row.native}


def test_it_can_be_collected():
    packed = pack(matrix(8, 8))
    matmul(matrix(3, 8), packed)
    data = weakref.ref(packed._store.packed[packed.layout])
    del packed
    gc.collect()
    assert data() is None


def test_repr_tells_what_it_is():
    packed = PackedMatrix(matrix(5, 3, np.uint8), "PackedI8K4(8)")
    assert repr(packed) == "PackedMatrix(shape=(5, 3), dtype=uint8, layout='PackedI8K4(8)', nbytes=76)"


# pack.


def test_pack_for_the_chosen_kernel(kernel):
    b = matrix(10, 10)
    assert pack(b, kernel=kernel).layout == KERNELS[kernel].right.name
    with dispatch.use_kernel(kernel):
        assert pack(b).layout == KERNELS[kernel].right.name
        assert PackedMatrix(b).layout == KERNELS[kernel].right.name


def test_pack_returns_a_packed_matrix_as_it_is(kernel):
    odd = ODD[0].name
    packed = PackedMatrix(matrix(10, 10), odd)
    assert pack(packed) is packed
    assert set(packed._store.packed) == {odd}
    assert pack(packed, kernel=kernel) is packed
    assert set(packed._store.packed) == {odd, KERNELS[kernel].right.name}


def test_pack_checks_its_arguments():
    for dtype in (np.int16, np.int32, np.int64, np.uint16, np.float32, np.float64, np.bool_, object):
        with pytest.raises(TypeError, match="b must be int8 or uint8, got "):
            pack(np.zeros((2, 2), dtype))
    with pytest.raises(TypeError, match="b must be int8 or uint8, got int64"):
        pack([[1, 2], [3, 4]])
    for shape in ((), (4,), (2, 3, 4)):
        with pytest.raises(ValueError, match="b must be two-dimensional"):
            pack(np.zeros(shape, np.int8))
    with pytest.raises(KernelError, match="there is no such kernel"):
        pack(matrix(2, 2), kernel="none")
    with pytest.raises(KernelError, match="there is no such kernel"):
        pack(pack(matrix(2, 2)), kernel="none")
    with pytest.raises(TypeError, match=r"layout must be the name of a layout \(str\), got list"):
        PackedMatrix(np.ones((2, 2), np.int8), [])
    with pytest.raises(ValueError, match="unknown layout"):
        PackedMatrix(matrix(2, 2), "none")


# Copies and pickles.


def same(one, other):
    return (
        (one.shape, one.dtype) == (other.shape, other.dtype)
        and np.array_equal(one.unpack(), other.unpack())
        and np.array_equal(one.column_sums, other.column_sums)
        and other.data.ctypes.data % 64 == 0
        and not other.data.flags.writeable
    )


@BOTH
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_pickles(layout, protocol, dtype):
    packed = PackedMatrix(matrix(21, 13, dtype), layout.name)
    packed._store.in_layout(ODD[0])
    again = pickle.loads(pickle.dumps(packed, protocol))
    assert same(packed, again)
    assert len(again._store.packed) == 1


def test_a_pickle_is_small():
    b = matrix(400, 400)
    packed = pack(b)
    for row in KERNELS.values():
        packed._store.in_layout(row.right)
    assert len(pickle.dumps(packed)) < 1.05 * b.nbytes


BEST, BASELINE = rows.NATIVE[0].right.name, rows.NATIVE[-1].right.name
EVERY, WEAK = tuple(KERNELS), (rows.NATIVE[-1].name, rows.PORTABLE.name)

# A machine that has a kernel, those that need nothing more, and the layout that its best kernel reads.
MACHINES = [
    (tuple(name for name, each in KERNELS.items() if each.features <= row.features), row.right.name)
    for row in rows.NATIVE
    if row is rows.best(row.features)
]


@pytest.mark.parametrize(
    ("here", "stored", "expected"),
    [
        ((rows.PORTABLE.name,), "RowMajor", "RowMajor"),
        ((rows.PORTABLE.name,), BEST, "RowMajor"),
        (EVERY, "RowMajor", BEST),
        *[(EVERY, row.right.name, row.right.name) for row in rows.NATIVE],
        (WEAK, BEST, BASELINE),
        (WEAK, ODD[-1].name, BASELINE),
        # From every machine to every other one: a layout that the other has is kept.
        *[
            (here, stored, stored if stored in {KERNELS[name].right.name for name in here} else best)
            for here, best in MACHINES
            for _, stored in MACHINES
        ],
    ],
)
def test_a_pickle_from_another_machine_gets_a_layout_of_this_one(monkeypatch, here, stored, expected):
    packed = PackedMatrix(matrix(21, 13, np.uint8), stored)
    stream = pickle.dumps(packed)
    monkeypatch.setattr(dispatch, "supported", lambda: here)
    again = pickle.loads(stream)
    assert again.layout == expected
    assert same(packed, again)


def test_a_pickle_loads_in_another_process(tmp_path):
    packed = PackedMatrix(matrix(21, 13, np.uint8), LAYOUTS[0].name)
    file = tmp_path / "packed"
    file.write_bytes(pickle.dumps(packed))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).unpack().tolist())"
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(packed.unpack().tolist())


def test_a_damaged_pickle_never_becomes_a_matrix():
    """The kernels trust the buffers, so a size that does not fit must be caught when it is read."""
    make, (shape, dtype, layout, data) = PackedMatrix(matrix(20, 20), LAYOUTS[0].name).__reduce__()
    assert same(make(shape, dtype, layout, data), pack(matrix(20, 20)))
    with pytest.raises(ValueError, match="data must have shape"):
        make((40, 20), dtype, layout, data)
    with pytest.raises(ValueError, match="data must have shape"):
        make(shape, dtype, layout, data[:-8])
    with pytest.raises(ValueError, match="unknown layout"):
        make(shape, dtype, "Unheard(8)", data)


def test_copies_are_itself():
    packed = pack(matrix(4, 4))
    assert copy.copy(packed) is packed
    assert copy.deepcopy([packed])[0] is packed


def test_the_module_offers_what_it_promises():
    for name in packing.__all__:
        assert getattr(packing, name) is not None
