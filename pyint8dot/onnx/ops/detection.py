"""Picking boxes: the best of those that overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyint8dot.onnx.bounds import check_shape
from pyint8dot.onnx.registry import Function, Site, operator


@operator("NonMaxSuppression")
def _non_max_suppression(site: Site) -> Function | None:
    centred, limit, what = bool(site.attr("center_point_box", 0)), site.max_bytes, site.what

    def run(
        boxes: np.ndarray,
        scores: np.ndarray,
        most: np.ndarray | None = None,
        overlap: np.ndarray | None = None,
        least: np.ndarray | None = None,
    ) -> Any:
        batches, classes, count = scores.shape
        if boxes.shape != (batches, count, 4):
            raise ValueError(f"boxes must have shape {[batches, count, 4]} as scores say, got {list(boxes.shape)}")
        # Numbers may stand in arrays of one element or of no dimension.
        keep = 0 if most is None else min(max(int(most.reshape(-1)[0]), 0), count)
        threshold = np.float32(0 if overlap is None else overlap.reshape(-1)[0])
        if not 0 <= threshold <= 1:
            raise ValueError(f"iou_threshold must be from 0 to 1, got {threshold}")
        check_shape((batches * classes * keep, 3), 8, limit, what)
        picked = [np.zeros((0, 3), np.int64)]
        for batch in range(batches if keep else 0):
            corners = _corners(boxes[batch], centred=centred)
            for kind, row in enumerate(scores[batch]):
                # Of equals the first comes first.
                order = np.argsort(-row, kind="stable")
                if least is not None:
                    order = order[row[order] > least.reshape(-1)[0]]
                chosen = _best(corners, order, keep, threshold)
                picked.append(np.column_stack([np.full_like(chosen, batch), np.full_like(chosen, kind), chosen]))
        return np.concatenate(picked)

    return run


def _corners(boxes: np.ndarray, *, centred: bool) -> np.ndarray:
    """Return the lower ends of boxes along both axes, and the upper ones: shape (4, count)."""
    first, second = boxes[:, :2].T, boxes[:, 2:].T
    if centred:
        first, second = first - second / 2, first + second / 2
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)])


def _best(corners: np.ndarray, order: np.ndarray, keep: int, threshold: np.float32) -> np.ndarray:
    """Return which boxes stay, in their order: those that overlap none before them by more than a share of both."""
    found: list[int] = []
    with np.errstate(all="ignore"):
        while order.size and len(found) < keep:
            first, order = order[0], order[1:]
            found.append(int(first))
            box, others = corners[:, first, None], corners[:, order]
            sides = np.minimum(box[2:], others[2:]) - np.maximum(box[:2], others[:2])
            common = np.where((sides > 0).all(axis=0), sides[0] * sides[1], 0)
            areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (box, others)]
            # A box without an area overlaps nothing.
            whole = (common > 0) & (areas[0] > 0) & (areas[1] > 0)
            order = order[~(whole & (common / (areas[0] + areas[1] - common) > threshold))]
    return np.array(found, np.int64)
