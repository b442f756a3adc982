"""Evening out activations before they are quantised: a difficulty moved from the activations into the weights.

A few channels behind a layer normalisation are many times larger than the rest, and one 8-bit scale for all of them
leaves the rest few codes. Each channel is divided by a factor that the matching row of the weights is multiplied by, as
in SmoothQuant (Xiao et al., 2022); the float model stays the same function.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

# How the difficulty is shared: 0 leaves it with the activations, 1 gives all of it to the weights.
_SHARE = 0.5


def smooth(model: onnx.ModelProto, peaks: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Divide activations channel by channel, and multiply the weights that read them.

    Parameters
    ----------
    model : onnx.ModelProto
        A model of `Builder`.
    peaks : mapping
        The tensors to even out: the largest magnitude of each channel.

    Returns
    -------
    onnx.ModelProto
    """
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    factors = {}
    for name, peak in peaks.items():
        weights = [arrays[n.input[1]] for n in model.graph.node if n.op_type == "MatMul" and n.input[0] == name]
        reach = np.max([np.abs(w).max(axis=1) for w in weights], axis=0)
        factor = np.maximum(peak, 1e-5) ** _SHARE / np.maximum(reach, 1e-5) ** (1 - _SHARE)
        factors[name] = (factor / np.exp(np.log(factor).mean())).astype(np.float32)
    nodes = []
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
        if node.op_type == "MatMul" and node.input[0] in factors:
            arrays[node.input[1]] = arrays[node.input[1]] * factors[node.input[0]][:, None]
            copy.input[0] = f"{node.input[0]}, even"
        for name in node.output:
            if name in factors:
                arrays[f"{name}, evening"] = 1 / factors[name]
                inputs = [name, f"{name}, evening"]
                nodes.append(helper.make_node("Mul", inputs, [f"{name}, even"], name=f"{name}, even Mul"))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    del result.graph.initializer[:]
    result.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
    return result
