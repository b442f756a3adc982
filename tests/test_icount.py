"""The instruction counts kept in the repository: complete, within the bounds, and still true."""

import json

import pytest
from icount import calls, measure, tables
from support import rows

NATIVE = [row.name for row in rows.NATIVE]
# Those made for some cores are preferred for the cycles that instructions take there, not for their number.
FOR_ANY_CORE = [row.name for row in rows.NATIVE if not row.cores]
GOLDENS = json.loads(measure.GOLDENS.read_text())

# The most instructions a multiply-accumulate of a packed product may take, Python's part included: a kernel without a
# bound of its own here must not take more than the kernels that it is preferred to.
LARGE_BOUNDS = {"smmla_8x8": 0.045, "sdot_8x8": 0.085, "smull_4x4": 0.236, "smlal_8x8": 0.36}
LARGE = "512x512x512"

# The most instructions a multiply-accumulate, for the larger of `calls.SHAPES`; the small ones have bars.
# Each is below what the best of the other libraries takes for the same work; the README has the table.
BOUNDS = {
    ("sdot_8x8", "matmul"): (0.076, 0.073, 0.0735, 0.0725, 0.0715),
    ("sdot_8x8", "qlinear_matmul"): (0.082, 0.0795, 0.0755, 0.0775, 0.0735),
    ("sdot_8x8", "linear"): (0.087, 0.081, 0.082, 0.082, 0.076),
    ("smmla_8x8", "matmul"): (0.043, 0.041, 0.0395, 0.0405, 0.0385),
    ("smmla_8x8", "qlinear_matmul, b_scale per column"): (0.0505, 0.047, 0.0415, 0.045, 0.0395),
    ("smmla_8x8", "linear"): (0.056, 0.049, 0.0465, 0.0495, 0.041),
    ("smull_4x4", "matmul"): (0.238, 0.236, 0.232, 0.235, 0.231),
    ("smull_4x4", "qlinear_matmul, b_scale per column"): (0.2475, 0.2445, 0.235, 0.241, 0.2335),
}
# The same for the small ones on kernels without bars, in thousands of instructions a call.
SMALL_BOUNDS = {
    ("smmla_8x8", "matmul"): (11.3, 26.5),
    ("smmla_8x8", "qlinear_matmul, b_scale per column"): (14.5, 29.5),
    ("smmla_8x8", "linear"): (19, 35),
    ("smull_4x4", "matmul"): (12.8, 54),
    ("smull_4x4", "qlinear_matmul, b_scale per column"): (15.5, 57),
}
# Whole models, in millions of instructions a run.
MODEL_BOUNDS = {
    "smmla_8x8": {"MiniLM 1x128x384": 107, "MiniLM.encode 1x128x384": 114, "InceptionV1 3x224x224": 115},
    "sdot_8x8": {"MiniLM 1x128x384": 147, "MiniLM.encode 1x128x384": 157, "InceptionV1 3x224x224": 145},
    "smull_4x4": {"MiniLM 1x128x384": 370, "MiniLM.encode 1x128x384": 386, "InceptionV1 3x224x224": 395},
}


def golden(call, kernel, shape):
    return GOLDENS[f"{call} {kernel} {shape}"]


def per_unit(call, kernel, shape):
    """The golden of one call, a multiply-accumulate or a byte."""
    return golden(call, kernel, shape) / calls.work(call, tuple(map(int, shape.split("x"))))


def test_every_call_of_every_native_kernel_has_a_golden():
    assert list(GOLDENS) == calls.keys(NATIVE)
    assert all(isinstance(count, int) and count > 0 for count in GOLDENS.values())


@pytest.mark.parametrize("kernel", FOR_ANY_CORE)
def test_a_kernel_takes_no_more_than_those_it_is_preferred_to(kernel):
    counts = [per_unit("matmul", name, LARGE) for name in FOR_ANY_CORE[FOR_ANY_CORE.index(kernel) :]]
    # Kernels that differ in how they suit a core may differ a little in their counts.
    assert counts[0] <= 1.05 * min(counts)


@pytest.mark.parametrize("kernel", LARGE_BOUNDS)
def test_a_large_product_stays_within_its_bound(kernel):
    assert per_unit("matmul", kernel, LARGE) <= LARGE_BOUNDS[kernel]


def test_sdot_takes_at_most_a_quarter_of_the_instructions_of_smlal():
    assert per_unit("matmul", "smlal_8x8", LARGE) / per_unit("matmul", "sdot_8x8", LARGE) >= 4


@pytest.mark.parametrize(("kernel", "call"), BOUNDS)
def test_whole_calls_stay_within_their_bounds(kernel, call):
    for shape, bound in zip(calls.SHAPES[len(calls.SMALL) :], BOUNDS[kernel, call], strict=True):
        name = "x".join(map(str, shape))
        assert per_unit(call, kernel, name) <= bound, name


@pytest.mark.parametrize(("kernel", "call"), SMALL_BOUNDS)
def test_small_calls_stay_within_their_bounds(kernel, call):
    for shape, bound in zip(calls.SMALL, SMALL_BOUNDS[kernel, call], strict=True):
        assert GOLDENS[calls.key(call, kernel, shape)] <= 1000 * bound, shape


@pytest.mark.parametrize(
    ("call", "shape"), calls.barred(), ids=lambda part: part if isinstance(part, str) else tables.name_of(part)
)
def test_every_form_stays_below_its_bar(call, shape):
    assert GOLDENS[calls.key(call, calls.BARS_ON, shape)] <= calls.CALLS[call].bars[shape]


@pytest.mark.parametrize("call", ["pack", "pack, transposed"])
@pytest.mark.parametrize("kernel", NATIVE)
def test_packing_stays_within_its_bound(call, kernel):
    assert per_unit(call, kernel, "1x384x1536") <= 0.7


@pytest.mark.parametrize("kernel", NATIVE)
def test_cost_grows_as_the_work_does(kernel):
    smallest, *larger = [per_unit("matmul", kernel, f"{n}x{n}x{n}") for n in (256, 1024, 2048)]
    assert max(larger) <= 1.05 * smallest


@pytest.mark.parametrize("kernel", MODEL_BOUNDS)
def test_whole_models_stay_within_their_bounds(kernel):
    for name, bound in MODEL_BOUNDS[kernel].items():
        model, shape = name.split()
        assert golden(model, kernel, shape) <= 1e6 * bound, name


@pytest.mark.parametrize(("model", "shape"), [("MiniLM", "1x128x384"), ("InceptionV1", "3x224x224")])
def test_sdot_halves_whole_models_of_smlal(model, shape):
    assert golden(model, "smlal_8x8", shape) / golden(model, "sdot_8x8", shape) >= 2.5


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
