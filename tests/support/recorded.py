"""Sessions that record what they run, and what to compare them with."""

from __future__ import annotations

import numpy as np
from support.onnx_graphs import data

from pyint8dot.onnx import InferenceSession
from pyint8dot.onnx.segment import Segment


def segments(session):
    """The segments of a session's last run."""
    road = session._seen[1]
    return [stage for stage in road.stages or () if isinstance(stage, Segment)]


def apart(made, **options):
    """A session that records, and one that runs node by node."""
    first, second = (InferenceSession(data(made), **options) for _ in range(2))
    assert second.steps
    return first, second


def same(found, wanted):
    for got, other in zip(found, wanted, strict=True):
        assert got.dtype == other.dtype
        np.testing.assert_array_equal(got, other)
