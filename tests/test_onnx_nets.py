"""Nets of the usual families, in every form that onnxruntime's tools write: all load, stay on int8, and agree with onnxruntime."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from icount.measure import CannotCountError
from models import counts, nets, table
from models.forms import FORMS
from support.onnx_graphs import model, node

pytestmark = [
    pytest.mark.static,
    pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"),
]

STATIC = ("QOperator", "QDQ", "QDQ, optimised")
# In hundredths: what is left are products of two activations, and recurrent nets, which the tools leave in floats.
LEAST = {
    **{(family, form): 97 for family in ("resnet", "mobilenet", "detector") for form in ("dynamic", *STATIC)},
    **{("transformer", form): 99 for form in STATIC}, ("transformer", "dynamic"): 94, ("transformer", "4 bits"): 94,
    ("speech", "dynamic"): 99, ("speech", "dynamic, optimised"): 99,
}  # fmt: skip


@pytest.mark.parametrize("family", nets.FAMILIES, ids=lambda family: family.name)
def test_every_form_of_a_net(family):
    found = {result.form: result for result in table.results([family], size=1)}
    assert set(found) >= set(FORMS) - table.PRODUCTS_ONLY
    for form, result in found.items():
        assert result.reference_share == 0
        assert 100 * result.int8_share >= LEAST.get((family.name, form), 0)
        # A result that lies half between two codes may fall to the other side, and onnxruntime interpolates codes where the model
        # says floats.
        most = 0.05 if form in STATIC else 0.02 if form.startswith(("dynamic", "4")) else 2e-5
        assert result.difference < most, form
    if family.name in ("resnet", "mobilenet", "detector"):
        # The picture becomes codes, the result floats.
        assert found["QDQ"].conversions == found["QDQ, optimised"].conversions == 2


def test_counted_runs(rng):
    """An activation takes some instructions an element, and a table shows what a run takes."""
    feed = {"x": rng.standard_normal((1000, 1000)).astype(np.float32)}
    try:
        small = {op: (model([node(op, "x", "y")], feed, {"y": np.float32}), feed) for op in ("Relu", "Abs")}
        counted = counts.million(small, "neoverse-n1", ("ours",))
    except CannotCountError as error:
        pytest.skip(str(error))
    assert 0.5 < counted["Relu"]["ours"] < 4
    assert 0.2 < counted["Abs"]["ours"] < 4
    assert counted["Relu"] != counted["Abs"]
    result = table.Result("net", "form", 1, 0, 0, 0, 0, {"neoverse-n1": {"ours": 2.0, "onnxruntime": 4.0}})
    title, _, row = table.table(iter([result]), ["neoverse-n1"])
    assert title.endswith("| neoverse-n1 |")
    assert row.endswith("| 2.0 / 4.0 = 0.50 |")
