"""The instruction counts kept in the repository: complete, within the bounds, and still true."""

import json

import pytest
from icount import calls, measure, tables
from support import rows

NATIVE = [row.name for row in rows.NATIVE]
GOLDENS = json.loads(measure.GOLDENS.read_text())

# The most instructions a multiply-accumulate of a packed product may take, Python's part included: a kernel without a
# bound of its own here must not take more than the kernels that it is preferred to.
LARGE_BOUNDS = {"sdot_8x8": 0.085, "smlal_8x8": 0.36}
LARGE = "512x512x512"

# The most instructions a multiply-accumulate on sdot_8x8, for the larger of `calls.SHAPES`; the small ones have bars.
# Each is below what the best of the other libraries takes for the same work; the README has the table.
BOUNDS = {
    "matmul": (0.076, 0.073, 0.0735, 0.0725, 0.0715),
    "qlinear_matmul": (0.082, 0.0795, 0.0755, 0.0775, 0.0735),
    "linear": (0.087, 0.081, 0.082, 0.082, 0.076),
}


def golden(call, kernel, shape):
    return GOLDENS[f"{call} {kernel} {shape}"]


def per_unit(call, kernel, shape):
    """The golden of one call, a multiply-accumulate or a byte."""
    return golden(call, kernel, shape) / calls.work(call, tuple(map(int, shape.split("x"))))


def test_every_call_of_every_native_kernel_has_a_golden():
    assert list(GOLDENS) == calls.keys(NATIVE)
    assert all(isinstance(count, int) and count > 0 for count in GOLDENS.values())


@pytest.mark.parametrize("kernel", NATIVE)
def test_a_kernel_takes_no_more_than_those_it_is_preferred_to(kernel):
    counts = [per_unit("matmul", name, LARGE) for name in NATIVE[NATIVE.index(kernel) :]]
    # Kernels that differ in how they suit a core may differ a little in their counts.
    assert counts[0] <= 1.05 * min(counts)


@pytest.mark.parametrize("kernel", LARGE_BOUNDS)
def test_a_large_product_stays_within_its_bound(kernel):
    assert per_unit("matmul", kernel, LARGE) <= LARGE_BOUNDS[kernel]


def test_sdot_takes_at_most_a_quarter_of_the_instructions_of_smlal():
    assert per_unit("matmul", "smlal_8x8", LARGE) / per_unit("matmul", "sdot_8x8", LARGE) >= 4


@pytest.mark.parametrize("call", BOUNDS)
def test_whole_calls_stay_within_their_bounds(call):
    for shape, bound in zip(calls.SHAPES[len(calls.SMALL) :], BOUNDS[call], strict=True):
        name = "x".join(map(str, shape))
        assert per_unit(call, "sdot_8x8", name) <= bound, name


@pytest.mark.parametrize(
    ("call", "shape"), calls.barred(), ids=lambda part: part if isinstance(part, str) else tables.name_of(part)
)
def test_every_form_stays_below_its_bar(call, shape):
    """Or is known not to reach it yet, and then indeed does not: the list of those gets no staler than this."""
    reached = GOLDENS[calls.key(call, calls.BARS_ON, shape)] <= calls.CALLS[call].bars[shape]
    assert reached is ((call, shape) not in calls.NOT_YET)


def test_what_is_not_reached_yet_has_a_bar():
    assert set(calls.barred()) >= calls.NOT_YET


@pytest.mark.parametrize("call", ["pack", "pack, transposed"])
@pytest.mark.parametrize("kernel", NATIVE)
def test_packing_stays_within_its_bound(call, kernel):
    assert per_unit(call, kernel, "1x384x1536") <= 0.7


@pytest.mark.parametrize("kernel", NATIVE)
def test_cost_grows_as_the_work_does(kernel):
    smallest, *larger = [per_unit("matmul", kernel, f"{n}x{n}x{n}") for n in (256, 1024, 2048)]
    assert max(larger) <= 1.05 * smallest


@pytest.mark.parametrize(
    ("model", "shape", "most"), [("MiniLM", "1x128x384", 190e6), ("InceptionV1", "3x224x224", 145e6)]
)
def test_whole_models_stay_within_their_bounds(model, shape, most):
    sdot, smlal = (golden(model, kernel, shape) for kernel in ("sdot_8x8", "smlal_8x8"))
    assert sdot <= most
    assert smlal / sdot >= 2.5


@pytest.mark.optional
def test_counted_again_the_goldens_hold():
    """The small calls, which are quickly counted; `make icount` counts them all."""
    largest = 1_000_000
    try:
        counts = measure.measure(largest=largest)
    except measure.CannotCountError as why:
        pytest.skip(str(why))
    wanted = {name: GOLDENS[name] for name in calls.keys(measure.KERNELS, largest)}
    assert measure.compare(counts, wanted) == []
