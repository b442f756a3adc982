"""ONNX's own node tests of the quantised operators, through the session and through the reference evaluator."""

from __future__ import annotations

import contextlib
import importlib
import io

import numpy as np
import onnx
import pytest
from onnx.backend.test.case import node as cases
from onnx.reference import ReferenceEvaluator

from pyint8dot.onnx import InferenceSession, onnx_ops

# Every one of them that is about int8 products and 8-bit quantisation; the others are of types this package does not have.
INTEGER = [
    "matmulinteger",
    "convinteger_without_padding",
    "convinteger_with_padding",
    "qlinearconv",
    *(f"qlinearmatmul_{d}D_{t}_{f}" for d in (2, 3) for t in ("uint8", "int8") for f in ("float32", "float16")),
    *(
        f"dynamicquantizelinear{case}{form}"
        for case in ("", "_max_adjusted", "_min_adjusted")
        for form in ("", "_expanded")
    ),
    "quantizelinear",
    "quantizelinear_axis",
    "dequantizelinear",
    "dequantizelinear_axis",
    "maxpool_2d_uint8",
]
# The float operators that the session has functions of its own for.
FLOAT = [
    "globalaveragepool", "globalaveragepool_precomputed", "maxpool_1d_default", "maxpool_2d_default", "maxpool_3d_default",
    "maxpool_2d_same_upper", "maxpool_2d_same_lower", "maxpool_2d_pads", "maxpool_2d_strides", "maxpool_2d_ceil",
    "maxpool_2d_ceil_output_size_reduce_by_one", "maxpool_2d_dilations", "maxpool_3d_dilations",
    "averagepool_1d_default", "averagepool_2d_ceil", "averagepool_2d_default", "averagepool_2d_pads",
    "averagepool_2d_pads_count_include_pad", "averagepool_2d_precomputed_pads_count_include_pad",
    "averagepool_2d_same_upper", "averagepool_2d_same_lower", "averagepool_2d_strides", "averagepool_3d_default",
    "averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True", "lrn", "lrn_default",
    "lppool_1d_default", "lppool_2d_dilations", "lppool_2d_pads", "lppool_2d_same_upper", "lppool_2d_strides", "lppool_3d_default",
    "softmax_axis_0", "softmax_axis_1", "softmax_axis_2", "softmax_large_number", "logsoftmax_axis_1",
    "layer_normalization_2d_axis1", "layer_normalization_3d_axis2_epsilon", "layer_normalization_default_axis",
    "erf", "gelu_default_1", "gelu_default_2", "concat_3d_axis_1", "concat_3d_axis_negative_1",
    "gather_0", "gather_1", "gather_negative_indices", "slice", "slice_neg_steps", "slice_negative_axes",
    "transpose_all_permutations_4", "clip_min_greater_than_max", "reduce_l2_keep_dims_random", "reduce_max_empty_set",
    "conv_with_strides_padding", "conv_with_autopad_same", "basic_conv_with_padding",
    "gemm_all_attributes", "matmul_3d", "range_int32_type_negative_delta", "expand_dim_changed", "split_equal_parts_2d_opset13",
]  # fmt: skip
INTEGER_MODULES = (
    "matmulinteger convinteger qlinearconv qlinearmatmul dynamicquantizelinear quantizelinear dequantizelinear maxpool"
).split()
FLOAT_MODULES = (
    "globalaveragepool averagepool lppool lrn softmax logsoftmax layernormalization erf gelu concat gather slice transpose clip "
    "reducel2 reducemax conv gemm matmul rangeop expand split "
    "resize upsample convtranspose hardsigmoid hardswish prelu elu selu celu softplus softsign mish swish thresholdedrelu "
    "shrink sigmoid reducesum reducemean reduceprod reducemin reducel1 reducesumsquare reduce_log_sum reduce_log_sum_exp "
    "argmax argmin cumsum topk gatherelements gathernd scatterelements scatternd onehot nonzero compress trilu "
    "depthtospace spacetodepth instance_normalization groupnormalization lpnormalization rmsnormalization einsum lstm gru "
    "rnn sign pow div mod"
).split()


def cases_of(modules):
    """The cases of these modules alone: making all of ONNX's takes an emulator minutes."""
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        for module in modules:
            importlib.import_module(f"onnx.backend.test.case.node.{module}")
    return {case.name.removeprefix("test_"): case for case in cases._NodeTestCases}


@pytest.fixture(scope="module")
def integer_cases():
    return cases_of(INTEGER_MODULES)


@pytest.fixture(scope="module")
def node_cases():
    return cases_of([*INTEGER_MODULES, *FLOAT_MODULES])


def pairs(case):
    names = [value.name for value in case.model.graph.input]
    for inputs, outputs in case.data_sets:
        yield dict(zip(names, map(array, inputs), strict=True)), [array(value) for value in outputs]


def array(value):
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


@pytest.mark.parametrize("name", INTEGER)
def test_integer_node_is_exact(integer_cases, name, kernel):
    case = integer_cases[name]
    session = InferenceSession(case.model.SerializeToString(), kernel=kernel)
    assert not session.report().reference_ops()
    for feed, outputs in pairs(case):
        for got, wanted in zip(session.run(None, feed), outputs, strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.static
@pytest.mark.parametrize("name", FLOAT)
def test_float_node(node_cases, name):
    case = node_cases[name]
    session = InferenceSession(case.model.SerializeToString())
    assert not session.report().reference_ops()
    for feed, outputs in pairs(case):
        for got, wanted in zip(session.run(None, feed), outputs, strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_allclose(got, wanted, rtol=case.rtol, atol=max(case.atol, 1e-6))


@pytest.mark.parametrize("name", [name for name in INTEGER if "maxpool" not in name and "expanded" not in name])
def test_plugged_into_the_reference_evaluator(integer_cases, name, kernel):
    case = integer_cases[name]
    evaluator = ReferenceEvaluator(case.model, new_ops=onnx_ops(kernel=kernel))
    for feed, outputs in pairs(case):
        for got, wanted in zip(evaluator.run(None, feed), outputs, strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.static
def test_no_valid_node_is_refused(node_cases):
    """Whatever ONNX tests of these operators, of any type, loads, and gives the right answer by one way or the other."""
    wrong, by_reference = [], set()
    for name, case in node_cases.items():
        session = InferenceSession(case.model.SerializeToString())
        if not {"bfloat16", "expanded"} & set(name.split("_")):
            by_reference.update(session.report().reference_ops())
        for feed, outputs in pairs(case):
            for got, wanted in zip(session.run(None, feed), outputs, strict=True):
                same = got.dtype == wanted.dtype and got.shape == wanted.shape
                if not same or not np.allclose(
                    got.astype(np.float64), wanted.astype(np.float64), rtol=case.rtol, atol=1e-6, equal_nan=True
                ):
                    wrong.append(name)
    # The reference stacks what a Loop collects with one dimension too many, so these fail there as well.
    wrong = [name for name in wrong if not (name.startswith("range_") and name.endswith("_expanded"))]
    # Corners are aligned to those of the whole result, as in onnxruntime; ONNX's own take a length that is no integer.
    assert wrong == [f"resize_downsample_scales_{mode}_align_corners" for mode in ("linear", "cubic")]
    # Of types narrower than 8 bits, with indices as a second result, and with a wider filter for what becomes smaller.
    assert by_reference <= {"DequantizeLinear", "QuantizeLinear", "MaxPool", "Resize"}
    assert len(node_cases) > 500
