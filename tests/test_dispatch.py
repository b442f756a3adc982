"""Which kernel is chosen, by whom, and how the choice is told."""

from __future__ import annotations

import inspect
import json
import os

import numpy as np
import pytest
from support import rows

import pyint8dot
from pyint8dot.engine import cpu, dispatch, library, packing
from pyint8dot.engine.kernels import KERNELS
from pyint8dot.errors import Int8DotError, KernelError, listing

pytestmark = pytest.mark.each_processor

WEAK = frozenset({"asimd"})
STRONG = frozenset({"asimd", "dotprod"})
FULL = STRONG | {"i8mm"}
BIG = frozenset({"cortex-a76"})

# What such machines choose, and a kernel that the weak one does not run.
BASELINE, BEST = rows.best(WEAK).name, rows.best(STRONG).name
BEYOND = next(row.name for row in rows.NATIVE if row.features <= STRONG and not row.features <= WEAK)


# The kernels made for some cores.
MADE_FOR = [row for row in rows.NATIVE if row.cores]


def runs(features, library_status=None, cores=BIG):
    """Kernels that a machine with these features and cores runs, best first."""
    return dispatch.ranked(features, cores, library_status)


def fitting(features):
    """Kernels whose needs these features meet, those for any cores in the order of the table, then those for other ones."""
    found = [row for row in KERNELS.values() if row.features <= features and row.native]
    suited = [row.name for row in found if not row.cores]
    return (*suited, *(row.name for row in found if row.cores), "portable")


# The table.


def test_names_are_their_own_keys():
    assert all(name == row.name for name, row in KERNELS.items())
    assert list(KERNELS)[-1] == "portable"


@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
def test_every_kernel_computes_two_dimensional_tiles(row):
    """No row is a matrix-vector kernel, so that no product can fall to one."""
    if row.native:
        assert row.mr > 1
        assert row.nr > 1
        # Whatever is made for some cores says so after its tile.
        assert row.name.endswith(f"_{row.mr}x{row.nr}") or (row.cores and f"_{row.mr}x{row.nr}_" in row.name)
        assert row.features <= {"asimd", "dotprod", "i8mm"}
        assert row.cores <= set(cpu.CORES.values())
        assert (row.left.r, row.right.r) == (row.mr, row.nr)
        assert row.left.kr == row.right.kr
        assert row.left.native is not None
        assert row.right.native is not None
        # What comes with each call, on either side, may want another form.
        left, right = row.each_call(row.left), row.each_call(row.right)
        assert left.complement == right.complement == row.complement
        assert left.native is not None
        assert right.native.gatherer is not None
        assert right.native.turn % row.right.kr == 0
    else:
        assert (row.name, row.right.name, row.features) == ("portable", "RowMajor", frozenset())
    assert row.summary


def test_rows_cannot_be_changed():
    with pytest.raises(AttributeError):
        KERNELS["portable"].mr = 2


def test_every_native_kernel_has_an_entry():
    assert {row.name for row in KERNELS.values() if row.native} <= set(library.ENTRIES)


# What runs where.


@pytest.mark.parametrize(
    ("features", "status", "expected"),
    [
        (frozenset(), "no library", ("portable",)),
        # Not even a library that loads makes native code run on another machine.
        (frozenset(), None, ("portable",)),
        (WEAK, None, fitting(WEAK)),
        (STRONG, None, fitting(STRONG)),
        (FULL, None, fitting(FULL)),
        (STRONG, "no library", ("portable",)),
    ],
)
def test_what_a_machine_runs(features, status, expected):
    assert runs(features, status) == expected


@pytest.mark.parametrize(
    ("features", "status", "words"),
    [
        (frozenset(), None, "it is AArch64 code and this process runs on"),
        (WEAK, None, "this processor has no dotprod"),
        (STRONG, "the native library is missing", "the native library is missing"),
    ],
)
def test_why_a_kernel_beyond_the_baseline_does_not_run(features, status, words):
    assert words in dispatch.obstacle(KERNELS[BEYOND], features, status)


@pytest.mark.parametrize("row", rows.NATIVE, ids=lambda row: row.name)
def test_every_feature_of_a_kernel_is_missed(row):
    """Each on its own, and all that a processor lacks together."""
    for lacking in sorted(row.features - WEAK):
        machine = (WEAK | row.features) - {lacking}
        assert dispatch.obstacle(row, machine, None) == f"this processor has no {lacking}"
    if beyond := sorted(row.features - WEAK):
        assert dispatch.obstacle(row, WEAK, None) == f"this processor has no {' and no '.join(beyond)}"


def test_every_kernel_that_the_readme_speaks_of_is_chosen_where_it_says():
    """SMLAL is what can be asked for besides: a kernel that is preferred to one says so there too."""
    told = ["smmla_8x8", "sdot_8x8", "smull_4x4", "smlal_8x8"]
    assert [name for name in KERNELS if name in told] == told
    assert [name in runs(WEAK) for name in told] == [False, False, True, True]
    assert [name in runs(STRONG) for name in told] == [False, True, True, True]


def test_this_machine_runs_portable_and_what_its_processor_has():
    assert dispatch.supported() == runs(cpu.features(), library.status(), cpu.cores())
    assert dispatch.supported()[-1] == "portable"


# The choice.


@pytest.mark.parametrize(
    ("environment", "features", "expected"),
    [
        ({}, frozenset(), "portable"),
        ({}, WEAK, BASELINE),
        ({}, STRONG, BEST),
        ({"TRACT_DOTPROD_DISABLE": "1"}, STRONG, BASELINE),
        ({"TRACT_DOTPROD_DISABLE": "1"}, STRONG | {"i8mm"}, BASELINE),
        ({"TRACT_DOTPROD_DISABLE": "1"}, WEAK, BASELINE),
        ({"TRACT_DOTPROD_DISABLE": "1"}, frozenset(), "portable"),
        ({"TRACT_DOTPROD_DISABLE": "0"}, STRONG, BEST),
        ({"TRACT_DOTPROD_DISABLE": ""}, STRONG, BEST),
        ({"PYINT8DOT_KERNEL": ""}, STRONG, BEST),
        ({"PYINT8DOT_KERNEL": BASELINE}, STRONG, BASELINE),
        ({"PYINT8DOT_KERNEL": " portable "}, STRONG, "portable"),
        ({"PYINT8DOT_KERNEL": "portable"}, frozenset(), "portable"),
        # The variable with the name in it is the more particular wish of the two.
        ({"PYINT8DOT_KERNEL": BEYOND, "TRACT_DOTPROD_DISABLE": "1"}, STRONG, BEYOND),
    ],
)
def test_the_environment_decides(environment, features, expected):
    row, why = dispatch.choose(runs(features), environment, BIG)
    assert row is KERNELS[expected]
    assert all(name in why for name, value in environment.items() if name == "PYINT8DOT_KERNEL" and value)


def test_the_reason_names_the_switch():
    assert dispatch.choose(runs(STRONG), {})[1] == "it is the best kernel that runs on this machine"
    assert "TRACT_DOTPROD_DISABLE" in dispatch.choose(runs(STRONG), {"TRACT_DOTPROD_DISABLE": "1"})[1]


@pytest.mark.parametrize("row", rows.NATIVE, ids=lambda row: row.name)
def test_every_kernel_is_the_choice_of_some_machine(row):
    """Of what has its features and no others, and its cores, unless another one needs the very same and is better."""
    cores = row.cores or BIG
    candidates = runs(row.features | WEAK, cores=cores)
    chosen, why = dispatch.choose(candidates, {}, cores)
    assert chosen is row or (chosen.features, chosen.cores) == (row.features, row.cores)
    assert why.startswith("it is the best kernel that runs on this machine")
    assert all(core in why for core in row.cores)
    assert dispatch.choose(candidates, {"PYINT8DOT_KERNEL": row.name}, cores)[0] is row


@pytest.mark.parametrize("row", MADE_FOR, ids=lambda row: row.name)
@pytest.mark.parametrize(
    "others", [BIG, BIG | {"unknown"}, {"unknown"}, {"0x51-0x805"}], ids=lambda cores: "+".join(sorted(cores))
)
@pytest.mark.parametrize("mixed", [True, False])
def test_one_other_core_is_enough_for_another_kernel(row, others, mixed):
    """A process on big and little cores may run on any of them at any time, and so may one that nothing is known of."""
    cores = frozenset(others) | (row.cores if mixed else frozenset())
    candidates = runs(row.features | WEAK, cores=cores)
    chosen, why = dispatch.choose(candidates, {}, cores)
    assert not chosen.cores
    assert chosen is rows.best(row.features | WEAK)
    assert why == "it is the best kernel that runs on this machine"
    # It stays there to be asked for.
    assert candidates == fitting(row.features | WEAK)
    assert dispatch.choose(candidates, {"PYINT8DOT_KERNEL": row.name}, cores)[0] is row


@pytest.mark.parametrize("row", MADE_FOR, ids=lambda row: row.name)
def test_cores_that_the_system_does_not_name_get_what_suits_any(row):
    candidates = runs(row.features | WEAK, cores=frozenset())
    assert dispatch.choose(candidates, {})[0] is rows.best(row.features | WEAK)
    assert "the system does not name its cores" in dispatch.reservation(row, frozenset(), {})


@pytest.mark.parametrize("row", MADE_FOR, ids=lambda row: row.name)
def test_why_a_kernel_is_left_to_those_who_ask(row):
    assert dispatch.reservation(row, row.cores, {}) is None
    assert dispatch.reservation(row, row.cores | BIG, {}) == (
        f"it is made for {listing(sorted(row.cores))}, and this process may run on {listing(sorted(row.cores | BIG))}"
    )
    if not row.features <= WEAK:
        switched = {"TRACT_DOTPROD_DISABLE": "1"}
        assert dispatch.reservation(row, row.cores, switched) == "TRACT_DOTPROD_DISABLE leaves it out"
        assert dispatch.choose(runs(row.features | WEAK, cores=row.cores), switched, row.cores)[0].name == BASELINE


def test_cores_do_not_outweigh_features():
    """Little cores that lack a feature run nothing that needs it."""
    for row in MADE_FOR:
        for lacking in row.features - WEAK:
            assert row.name not in runs((row.features | WEAK) - {lacking}, cores=row.cores)


@pytest.mark.parametrize(("name", "features"), [(BEYOND, WEAK), (BASELINE, frozenset()), ("avx512", STRONG)])
def test_a_wrong_name_in_the_environment_is_an_error_that_names_the_variable(name, features):
    with pytest.raises(KernelError) as caught:
        dispatch.choose(runs(features), {"PYINT8DOT_KERNEL": name})
    message = str(caught.value)
    assert "PYINT8DOT_KERNEL" in message
    assert repr(name) in message
    assert all(runnable in message for runnable in runs(features))


def test_error_families():
    assert issubclass(KernelError, Int8DotError)
    assert issubclass(KernelError, ValueError)


def test_an_explicit_name_wins(kernel):
    with dispatch.use_kernel("portable"):
        assert dispatch.select(kernel) is KERNELS[kernel]
    assert dispatch.select(kernel) is KERNELS[kernel]


@pytest.mark.parametrize("name", ["", "sdot", "SDOT_8X8", "portable ", "smmla_9x9"])
@pytest.mark.parametrize("way", [dispatch.select, dispatch.use_kernel])
def test_an_unknown_name_is_an_error_that_lists_what_runs(way, name):
    with pytest.raises(KernelError, match="there is no such kernel") as caught:
        way(name)
    assert repr(name) in str(caught.value)
    assert all(runnable in str(caught.value) for runnable in dispatch.supported())


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_that_does_not_run_is_an_error_with_the_reason(name):
    """On every machine each name either works or is refused with its reason; never a crash later."""
    if name in dispatch.supported():
        assert dispatch.select(name).name == name
        return
    reason = dispatch.why_not(KERNELS[name])
    for way in (dispatch.select, dispatch.use_kernel):
        with pytest.raises(KernelError) as caught:
            way(name)
        assert reason in str(caught.value)
        assert "this machine runs " in str(caught.value)


@pytest.mark.parametrize("wrong", [1, b"portable", ["portable"], KERNELS["portable"]])
def test_a_name_must_be_a_string(wrong):
    with pytest.raises(TypeError, match="kernel must be the name of a kernel"):
        dispatch.select(wrong)


def test_the_choice_knows_no_shapes():
    """A matrix-vector shape must get the same kernel as a square one: the choice has no shape to go by."""
    assert list(inspect.signature(dispatch.select).parameters) == ["name"]


SHAPES = [(1, 1, 1), (1, 64, 64), (64, 64, 1), (1, 1, 512), (2, 3, 1), (8, 8, 8), (64, 1, 64), (100, 33, 7)]


@pytest.mark.parametrize("way", ["keyword", "context", "default"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_a_product_of_any_shape_runs_on_the_chosen_kernel(kernel, shape, way):
    """What a matrix has been converted to betrays the kernel that read it: one row or column makes no difference."""
    m, k, n = shape
    a = np.ones((m, k), np.int8)
    odd = rows.FAMILIES[0](3).name
    b = packing.PackedMatrix(np.ones((k, n), np.int8), odd)
    if way == "keyword":
        product = pyint8dot.matmul(a, b, kernel=kernel)
    elif way == "context":
        with dispatch.use_kernel(kernel):
            product = pyint8dot.matmul(a, b)
    else:
        kernel = dispatch.kernel_info()["chosen"]
        product = pyint8dot.matmul(a, b)
    assert np.array_equal(product, np.full((m, n), k, np.int32))
    assert set(b._store.packed) == {odd, KERNELS[kernel].for_columns(n).right.name}


# kernel_info.


def test_kernel_info_is_plain_json():
    info = dispatch.kernel_info()
    assert json.loads(json.dumps(info)) == info


def test_kernel_info_tells_all_of_it(kernel):
    with dispatch.use_kernel(kernel):
        info = dispatch.kernel_info()
    assert info["chosen"] == kernel
    assert "use_kernel" in info["why"]
    assert info["version"] == pyint8dot.__version__
    assert info["features"] == sorted(cpu.features())
    assert info["cores"] == sorted(cpu.cores())
    assert info["library"]["path"] == str(library.path())
    assert info["library"]["loaded"] is (library.status() is None)
    assert list(info["kernels"]) == list(KERNELS)
    for name, row in info["kernels"].items():
        assert row["runs"] is (name in dispatch.supported())
        reservation = dispatch.reservation(KERNELS[name], cpu.cores(), os.environ)
        words = f"it runs here, but only where it is asked for: {reservation}" if reservation else "it runs here"
        assert row["why"] == (dispatch.why_not(KERNELS[name]) or words)
        assert row["cores"] == sorted(KERNELS[name].cores)
        assert row["tile"] == [KERNELS[name].mr, KERNELS[name].nr]
        assert row["layouts"] == {"left": KERNELS[name].left.name, "right": KERNELS[name].right.name}
