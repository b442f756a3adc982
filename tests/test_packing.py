"""The packed layouts to the byte, and their two producers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import rows
from support.packed import defined, some

from pyint8dot.engine import layouts, packers
from pyint8dot.engine.layouts import PackedI8K16
from pyint8dot.engine.packing import PackedFormat, PackedI8K4, RowMajor, pack

LAYOUTS = [*rows.PACKED, RowMajor()]
EVEN = [family for family in rows.FAMILIES if family.kr % 2 == 0]
OTHERS = [
    *(family(r) for family in rows.FAMILIES for r in (3, 32)),
    *(family(r, complement=True) for family in EVEN for r in (3, 32)),
]
EVERY = pytest.mark.parametrize("layout", [*LAYOUTS, *OTHERS], ids=str)


def written(layout, x, block):
    """The packed form of x through the writer, `block` rows at a time; 0 writes single rows as vectors."""
    writer = layout.writer(*x.shape)
    for start in range(0, x.shape[0], block or 1):
        writer.write(x[start : start + block] if block else x[start])
    return writer.finish()


# The pictures of the layouts.


def test_picture_of_packed_i8k4():
    """Five k, three columns in panels of two: 0xkj for element (k, j), dots are zeros."""
    x = np.array([[16 * k + j for j in range(3)] for k in range(5)], np.int8)
    picture = """
        00 10 20 30  01 11 21 31   40 .. .. ..  41 .. .. ..
        02 12 22 32  .. .. .. ..   42 .. .. ..  .. .. .. ..
    """
    expected = [0 if word == ".." else int(word, 16) for word in picture.split()]
    assert PackedI8K4(2).pack(x, k_axis=0, mn_axis=1).tolist() == expected


def test_picture_of_packed_format():
    x = np.array([[16 * k + j for j in range(3)] for k in range(5)], np.int8)
    picture = """
        00 01  10 11  20 21  30 31  40 41
        02 ..  12 ..  22 ..  32 ..  42 ..
    """
    expected = [0 if word == ".." else int(word, 16) for word in picture.split()]
    assert PackedFormat(2).pack(x, k_axis=0, mn_axis=1).tolist() == expected


def test_picture_of_packed_i8k16():
    """Seventeen k, two columns: a group of sixteen and one of a single k."""
    x = np.array([[2 * k + j for j in range(2)] for k in range(17)], np.int8)
    first, second = list(range(0, 32, 2)), list(range(1, 33, 2))
    rest = [0] * 15
    expected = [*first, *second, 32, *rest, 33, *rest]
    assert PackedI8K16(2).pack(x, k_axis=0, mn_axis=1).tolist() == expected
    # Complemented, the last eight of each sixteen are -1 - x, zeros that fill up included.
    flipped = [-1 - value if i % 16 >= 8 else value for i, value in enumerate(expected)]
    assert PackedI8K16(2, complement=True).pack(x, k_axis=0, mn_axis=1).tolist() == flipped


def test_picture_of_row_major():
    x = np.arange(6, dtype=np.int8).reshape(2, 3)
    assert RowMajor().pack(x, k_axis=0, mn_axis=1).tolist() == [0, 1, 2, 3, 4, 5]


# The two producers.

# The named cases of the first kernel that read this layout: k, mn, r.
NAMED = {
    "smallest": (1, 1, 1),
    "exact tile": (4, 8, 8),
    "k not a multiple of four": (7, 8, 8),
    "partial panel": (8, 5, 8),
    "one wide tile": (12, 32, 32),
    "many panels": (13, 67, 8),
}


@pytest.mark.parametrize("kind", rows.FAMILIES)
@pytest.mark.parametrize("name", NAMED)
def test_named_cases(kind, name):
    k, mn, r = NAMED[name]
    x = some(k, mn)
    expected = defined(kind(r), x)
    assert np.array_equal(kind(r).pack(x, k_axis=0, mn_axis=1), expected)
    assert np.array_equal(kind(r).pack(x.T, k_axis=1, mn_axis=0), expected)
    assert np.array_equal(written(kind(r), x, 0), expected)
    assert np.array_equal(written(kind(r), x, 3), expected)


@EVERY
@pytest.mark.parametrize("mn", [0, 1, 2, 7, 8, 9, 16, 65])
@pytest.mark.parametrize("k", [0, 1, 3, 4, 5, 8, 11])
def test_both_producers_make_the_defined_bytes(layout, k, mn):
    x = some(k, mn)
    expected = defined(layout, x)
    assert expected.shape == (layout.size(k, mn),)
    for packed in (layout.pack(x, k_axis=0, mn_axis=1), written(layout, x, 0), written(layout, x, 5)):
        assert packed.dtype == np.int8
        assert packed.flags.c_contiguous
        assert np.array_equal(packed, expected)
    back = layout.unpack(expected, k, mn)
    assert back.shape == (k, mn)
    assert back.flags.c_contiguous
    assert np.array_equal(back, x)


@st.composite
def strided(draw):
    """A view with any order of the axes, steps of either sign, an offset, and sometimes of a single value."""
    k = draw(st.integers(0, 40))
    mn = draw(st.integers(0, 40))
    steps = draw(st.tuples(*[st.sampled_from([-3, -2, -1, 1, 1, 1, 2, 3])] * 2))
    order = draw(st.sampled_from("CF"))
    before = draw(st.integers(0, 2))
    base = np.asarray(
        some(before + k * abs(steps[0]), before + mn * abs(steps[1]), seed=draw(st.integers(0, 9))), order=order
    )
    view = base[before:, before:][:: steps[0], :: steps[1]][:k, :mn]
    kind = draw(st.sampled_from(["plain", "read-only", "broadcast k", "broadcast mn"]))
    if kind == "read-only":
        view = view[:]
        view.setflags(write=False)
    elif kind == "broadcast k" and k:
        view = np.broadcast_to(view[:1], (k, mn))
    elif kind == "broadcast mn" and mn:
        view = np.broadcast_to(view[:, :1], (k, mn))
    return view


@given(x=strided(), kind=st.sampled_from(rows.FAMILIES), r=st.integers(1, 20), data=st.data())
def test_producers_agree_on_any_view(x, kind, r, data):
    layout = kind(r)
    expected = defined(layout, x)
    assert np.array_equal(layout.pack(x, k_axis=0, mn_axis=1), expected)
    assert np.array_equal(layout.pack(x.T, k_axis=-1, mn_axis=-2), expected)
    writer = layout.writer(*x.shape)
    done = 0
    while done < x.shape[0]:
        count = data.draw(st.integers(0, x.shape[0] - done), label="rows")
        writer.write(x[done : done + count] if count else x[done])
        done += count or 1
    assert np.array_equal(writer.finish(), expected)
    assert np.array_equal(layout.unpack(expected, *x.shape), x)


@EVERY
def test_every_value_survives(layout):
    x = np.arange(-128, 128, dtype=np.int16).astype(np.int8).reshape(16, 16)
    assert np.array_equal(layout.unpack(layout.pack(x, k_axis=0, mn_axis=1), 16, 16), x)


@EVERY
def test_the_whole_buffer_is_written(layout, monkeypatch):
    """Padding must be zero in memory that was not."""

    def dirty(size):
        return np.full(size, 0x55, np.int8)

    monkeypatch.setattr(layouts, "aligned", dirty)
    for k, mn in [(1, 1), (5, 13), (8, 16), (7, 70)]:
        x = some(k, mn)
        assert np.array_equal(layout.pack(x, k_axis=0, mn_axis=1), defined(layout, x))
        assert np.array_equal(written(layout, x, 2), defined(layout, x))


@EVERY
def test_buffers_begin_on_a_cache_line(layout):
    for k, mn in [(1, 1), (5, 13), (300, 40)]:
        x = some(k, mn)
        assert layout.pack(x, k_axis=0, mn_axis=1).ctypes.data % 64 == 0
        assert written(layout, x, 4).ctypes.data % 64 == 0


def test_packing_leaves_its_argument_alone():
    x = some(9, 9)
    x.setflags(write=False)
    packed = LAYOUTS[0].pack(x, k_axis=0, mn_axis=1)
    assert not np.shares_memory(packed, x)
    packed[:] = 0
    assert np.array_equal(x, some(9, 9))


@EVERY
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_any_producer_of_whole_operands_agrees_with_numpy(layout, dtype):
    """`pack_into` may be native; numpy is the definition. uint8 is moved to int8, padding excepted."""
    for k, mn in [(1, 1), (3, 8), (9, 17), (64, 40)]:
        for x in (some(k, mn).view(dtype), some(mn, k).view(dtype).T, some(2 * k, 3 * mn).view(dtype)[::-2, ::3]):
            out = np.full(layout.size(k, mn), 0x55, np.int8)
            packers.pack_into(layout, x, out)
            expected = np.full(layout.size(k, mn), 0x33, np.int8)
            values = (x.astype(np.int16) - (128 if dtype == np.uint8 else 0)).astype(np.int8)
            packers.pack_by_numpy(layout, values, expected)
            assert np.array_equal(out, expected)
            assert np.array_equal(expected, defined(layout, values))


@pytest.mark.parametrize("layout", rows.PACKED, ids=str)
def test_gathered_operands_have_whole_turns_of_k(layout):
    """A turn of the layout's own, not of others."""
    turn = layout.native.turn
    assert [layout.gathered_depth(k) for k in (0, 1, turn, turn + 1)] == [0, turn, turn, 2 * turn]


def test_flips_of_packers():
    """Each half of a K group has 32 bits: uint8 moves in both, what is complemented is flipped in the upper one."""
    words = {
        (flipped, dtype): f"{PackedI8K16(4, complement=flipped).flip(np.dtype(dtype)) % 2**64:016x}"
        for flipped in (False, True)
        for dtype in (np.int8, np.uint8)
    }
    assert words == {
        (False, np.int8): "0" * 16,
        (False, np.uint8): "80" * 8,
        (True, np.int8): "ffffffff00000000",
        (True, np.uint8): "7f7f7f7f80808080",
    }


@pytest.mark.parametrize("family", EVEN)
def test_sums_of_upper_halves(family):
    for k in (0, 1, family.kr // 2, family.kr, 3 * family.kr + family.kr // 2 + 1):
        x = some(k, 3)
        expected = [sum(int(x[i, j]) for i in range(k) if i % family.kr >= family.kr // 2) for j in range(3)]
        assert family(4).upper_sums(x).tolist() == expected


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("mn", [0, 1, 2, 3, 5, 8, 11])
@pytest.mark.parametrize("k", [0, 1, 8, 9, 40])
def test_complemented_operands_of_either_end(k, mn, split):
    """In every panel, those of a split end included, it is the plain form with the same bytes flipped, and leads back."""
    x = some(k, mn)
    plain, flipped = (PackedI8K16(4, split=split, complement=flip) for flip in (False, True))
    packed = flipped.pack(x, k_axis=0, mn_axis=1)
    upper = np.arange(packed.size) % 16 >= 8
    assert np.array_equal(packed, plain.pack(x, k_axis=0, mn_axis=1) ^ -upper.astype(np.int8))
    assert np.array_equal(flipped.unpack(packed, k, mn), x)


# Names and errors.


@EVERY
def test_names_lead_back(layout):
    assert layouts.layout(layout.name) == layout
    assert hash(layouts.layout(layout.name)) == hash(layout)
    assert repr(layout) == layout.name


def test_groups_of_one_have_no_upper_half():
    with pytest.raises(ValueError, match="K groups of 1 have no upper half"):
        PackedFormat(8, complement=True)
    with pytest.raises(ValueError, match="unknown layout"):
        layouts.layout("PackedFormat(8, complement)")


def test_layouts_differ():
    assert len({*LAYOUTS, *OTHERS}) == len(LAYOUTS) + len(OTHERS)


@pytest.mark.parametrize(
    "name", ["", "PackedI8K4", "PackedI8K4(0)", "PackedI8K4(-8)", "Packed(8)", "PackedI8K4(8) ", "RowMajor(1)"]
)
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="unknown layout"):
        layouts.layout(name)


@pytest.mark.parametrize("kind", rows.FAMILIES)
def test_r_is_checked(kind):
    with pytest.raises(ValueError, match="r must be at least 1, got 0"):
        kind(0)
    for wrong in (8.0, "8", None, True):
        with pytest.raises(TypeError, match=f"r must be an int, got {type(wrong).__name__}"):
            kind(wrong)


@pytest.mark.parametrize("kind", rows.FAMILIES)
def test_r_may_be_a_numpy_integer(kind):
    """The sizes that follow from it are too large for its type, and a buffer must not be too small for the native packer."""
    layout = kind(np.int8(8))
    x = some(64, 75)
    assert layout.size(64, 75) == kind(8).size(64, 75) == 64 * 80
    assert np.array_equal(layout.pack(x, k_axis=0, mn_axis=1), defined(kind(8), x))


@EVERY
def test_operands_are_checked(layout):
    with pytest.raises(TypeError, match="x must be int8, got uint8"):
        layout.pack(np.zeros((2, 2), np.uint8), k_axis=0, mn_axis=1)
    with pytest.raises(TypeError, match="x must be int8, got float64"):
        layout.pack([[1.0, 2.0]], k_axis=0, mn_axis=1)
    for shape in ((), (4,), (1, 2, 3)):
        with pytest.raises(ValueError, match=f"x must be two-dimensional, got {len(shape)} dimension"):
            layout.pack(np.zeros(shape, np.int8), k_axis=0, mn_axis=1)
    for axes in ((0, 0), (1, 1), (0, 2), (-1, 1), (-3, 0), (0, -2)):
        with pytest.raises(ValueError, match="must be the two axes of x"):
            layout.pack(np.zeros((2, 2), np.int8), k_axis=axes[0], mn_axis=axes[1])
    with pytest.raises(TypeError, match="k_axis must be an int, got str"):
        layout.pack(np.zeros((2, 2), np.int8), k_axis="k", mn_axis=1)
    with pytest.raises(TypeError, match="mn_axis must be an int, got float"):
        layout.pack(np.zeros((2, 2), np.int8), k_axis=0, mn_axis=1.0)
    with pytest.raises(TypeError, match="x must not be a masked array"):
        layout.pack(np.ma.masked_array(np.zeros((2, 2), np.int8), True), k_axis=0, mn_axis=1)


@EVERY
def test_packed_data_is_checked(layout):
    size = layout.size(2, 3)
    for data, words in ((np.zeros(size, np.int32), "data must be int8, got int32"), (None, "data must be an array")):
        with pytest.raises(TypeError, match=words):
            layout.unpack(data, 2, 3)
    with pytest.raises(ValueError, match="data must have shape"):
        layout.unpack(np.zeros(size + 1, np.int8), 2, 3)
    with pytest.raises(ValueError, match="must not be negative, got k=-2, mn=3"):
        layout.unpack(np.zeros(0, np.int8), -2, 3)
    with pytest.raises(TypeError, match="k must be an int, got float"):
        layout.unpack(np.zeros(size, np.int8), 2.0, 3)


@EVERY
def test_writers_check_their_rows(layout):
    writer = layout.writer(3, 5)
    with pytest.raises(TypeError, match="rows must be int8, got int64"):
        writer.write(np.zeros(5, np.int64))
    for shape in ((), (4,), (2, 6), (1, 1, 5)):
        with pytest.raises(ValueError, match="rows must have shape"):
            writer.write(np.zeros(shape, np.int8))
    writer.write(np.ones((2, 5), np.int8))
    with pytest.raises(ValueError, match="rows must be 3 in all, got 2"):
        writer.finish()
    with pytest.raises(ValueError, match="rows must be 3 in all, got 4"):
        writer.write(np.ones((2, 5), np.int8))
    # A refused block leaves no trace.
    writer.write(np.ones(5, np.int8))
    assert np.array_equal(writer.finish(), defined(layout, np.ones((3, 5), np.int8)))
    with pytest.raises(ValueError, match="must not be negative"):
        layout.writer(-1, 5)


@EVERY
def test_unpack_checks_the_size(layout):
    right = layout.pack(some(5, 5), k_axis=0, mn_axis=1)
    with pytest.raises(ValueError, match="data must have shape"):
        layout.unpack(right[:-1], 5, 5)
    with pytest.raises(ValueError, match="data must have shape"):
        layout.unpack(right.reshape(1, -1), 5, 5)
    assert np.array_equal(layout.unpack(np.repeat(right, 2)[::2], 5, 5), some(5, 5))


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.zeros(31, np.int8), ValueError, r"out must have shape \(32,\), got \(31,\)"),
        (np.zeros((4, 8), np.int8), ValueError, r"out must have shape \(32,\), got \(4, 8\)"),
        (np.zeros(32, np.uint8), TypeError, "out must be int8, got uint8"),
        (np.zeros(64, np.int8)[::2], ValueError, "out must be contiguous"),
        (np.frombuffer(bytes(32), np.int8), ValueError, "out is read-only"),
    ],
)
def test_pack_into_checks_where_it_writes(out, error, words):
    with pytest.raises(error, match=words):
        packers.pack_into(PackedI8K4(8), np.ones((4, 5), np.int8), out)
    assert not out.any()


@pytest.mark.parametrize("shape", [(0, 2**62), (2**62, 0), (0, 0)])
def test_nothing_is_packed_of_empty_matrices(shape):
    """However long the other axis is: beyond what an address can be."""
    b = np.empty(shape, np.int8)
    assert pack(b).shape == shape
