"""onnx's inference of shapes, kept from ending the process.

A Slice of an axis whose inferred length is below 0, such as that of a convolution with a window larger than its input, fails an
assertion in onnx's native code. While types are inferred each Slice is therefore an operator of this package, whose own inference
looks at the lengths and then asks onnx's.
"""

from __future__ import annotations

import functools
from typing import Any

import onnx
from onnx import defs, helper

from pyint8dot.onnx.contrib.writer import all_graphs

_DOMAIN = "pyint8dot.inference"
# From this opset on starts and ends are inputs, and what they cut is bounded by the assertion.
_FIRST = 10


def infer_shapes(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    """Return what `onnx.shape_inference.infer_shapes` does, or raise a ValueError where it would end the process.

    Parameters
    ----------
    model : onnx.ModelProto
        Any model, with its functions inlined; as before afterwards.
    **options
        Those of `onnx.shape_inference.infer_shapes`.

    Returns
    -------
    onnx.ModelProto
    """
    opset = next((o.version for o in model.opset_import if not o.domain), 1)
    nodes = (node for graph in all_graphs(model.graph) for node in graph.node)
    slices = [node for node in nodes if node.op_type == "Slice" and not node.domain]
    if not slices or opset < _FIRST:
        return onnx.shape_inference.infer_shapes(model, **options)
    _register()
    for node in slices:
        node.domain = _DOMAIN
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    try:
        known = onnx.shape_inference.infer_shapes(model, **options)
    finally:
        _restore(model)
    _restore(known)
    return known


def _restore(model: onnx.ModelProto) -> None:
    """Give each Slice back to ONNX."""
    for graph in all_graphs(model.graph):
        for node in graph.node:
            if node.domain == _DOMAIN:
                node.domain = ""
    kept = [o for o in model.opset_import if o.domain != _DOMAIN]
    opsets = [helper.make_opsetid(o.domain, o.version) for o in kept]
    del model.opset_import[:]
    model.opset_import.extend(opsets)


@functools.cache
def _register() -> None:
    """Make the operator known to onnx."""
    slices = defs.get_schema("Slice", 13)
    infer = slices.get_type_and_shape_inference_function()

    def checked(context: Any) -> None:
        kind = context.get_input_type(0)
        dims = [] if kind is None else kind.tensor_type.shape.dim
        if any(dim.HasField("dim_value") and dim.dim_value < 0 for dim in dims):
            raise ValueError(f"Slice of a tensor with a dimension below 0: {[dim.dim_value for dim in dims]}")
        infer(context)

    types = [(each.type_param_str, list(each.allowed_type_strs), "") for each in slices.type_constraints]
    schema = defs.OpSchema(
        "Slice", _DOMAIN, 1, inputs=list(slices.inputs), outputs=list(slices.outputs), type_constraints=types
    )
    schema.set_type_and_shape_inference_function(checked)
    defs.register_schema(schema)
