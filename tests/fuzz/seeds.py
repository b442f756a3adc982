"""The models that are mutated: small ones with every kind of thing a model can hold."""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil

import numpy as np
from onnx import TensorProto, helper
from support.onnx_graphs import data, model, node

F32 = np.float32


def seeds() -> list[bytes]:
    """Return the models made here."""
    rng = np.random.default_rng(0)
    return [data(make(rng)) for make in (_attention, _qoperator, _qdq, _control, _sequences, _functions, _shapes)]


def node_tests() -> list[bytes]:
    """Return the models of onnx's own node tests, one for each; making them takes a minute."""
    from onnx.backend.test.case import node as cases

    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        for module in pkgutil.iter_modules(cases.__path__):
            importlib.import_module(f"{cases.__name__}.{module.name}")
    found = [case.model.SerializeToString() for case in cases._NodeTestCases]
    return [whole for whole in found if len(whole) < 20_000]


def _dynamic(x: str, w: str, y: str) -> list:
    return [
        node("DynamicQuantizeLinear", x, f"{y}_q {y}_s {y}_z"),
        node("MatMulInteger", f"{y}_q {w} {y}_z {w}_z", f"{y}_p"),
        node("Cast", f"{y}_p", f"{y}_f", to=TensorProto.FLOAT),
        node("Mul", f"{y}_s {w}_s", f"{y}_m"),
        node("Mul", f"{y}_f {y}_m", f"{y}_d"),
        node("Add", f"{y}_d {w}_b", y),
    ]


def _weights(rng, name: str, k: int, n: int) -> dict:
    return {
        name: rng.integers(-128, 128, (k, n)).astype(np.int8), f"{name}_z": np.int8(0), f"{name}_s": F32(0.01),
        f"{name}_b": rng.standard_normal(n).astype(F32),
    }  # fmt: skip


def _attention(rng):
    """One layer of a small transformer with dynamic quantisation: embeddings, heads, normalisation, GELU."""
    constants = {
        "table": rng.standard_normal((11, 8)).astype(F32),
        "heads": np.int64([0, 0, 2, 4]),
        "flat": np.int64([0, 0, 8]),
    }
    constants |= {
        "root": F32(2),
        "g": np.ones(8, F32),
        "b": np.zeros(8, F32),
        "s2": F32(1.4142135),
        "one": F32(1),
        "half": F32(0.5),
    }
    nodes = [node("Gather", "table ids", "x")]
    for part in "qkv":
        constants |= _weights(rng, f"w{part}", 8, 8)
        perm = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        nodes += [
            *_dynamic("x", f"w{part}", part),
            node("Reshape", f"{part} heads", f"{part}h"),
            node("Transpose", f"{part}h", f"{part}t", perm=perm),
        ]
    nodes += [
        node("MatMul", "qt kt", "scores"), node("Div", "scores root", "scaled"), node("Softmax", "scaled", "p", axis=-1),
        node("MatMul", "p vt", "o"), node("Transpose", "o", "ot", perm=[0, 2, 1, 3]), node("Reshape", "ot flat", "of"),
        node("Add", "of x", "r"), node("LayerNormalization", "r g b", "ln", axis=-1),
        node("Div", "ln s2", "e1"), node("Erf", "e1", "e2"), node("Add", "e2 one", "e3"), node("Mul", "ln e3", "e4"),
        node("Mul", "e4 half", "y"),
    ]  # fmt: skip
    return model(
        nodes, {"ids": (np.int64, ["batch", "length"])}, {"y": F32}, {k: np.asarray(v) for k, v in constants.items()}
    )


def _qoperator(rng):
    """A convolution, pools and a product of quantised operators."""
    constants = {
        "s": F32(0.02), "z": np.uint8(128), "w": rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8), "ws": np.full(4, 0.01, F32),
        "wz": np.zeros(4, np.int8), "bias": np.arange(4, dtype=np.int32), "v": rng.integers(-128, 128, (4, 5)).astype(np.int8),
        "vz": np.int8(0), "shape": np.int64([0, -1]),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("QLinearConv", "q s z w ws wz s z bias", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("MaxPool", "c", "m", kernel_shape=[2, 2]), node("DequantizeLinear", "m s z", "d"), node("GlobalAveragePool", "d", "g"),
        node("Reshape", "g shape", "flat"), node("QuantizeLinear", "flat s z", "fq"), node("QLinearMatMul", "fq s z v s vz s z", "yq"),
        node("DequantizeLinear", "yq s z", "y"),
    ]  # fmt: skip
    return model(nodes, {"x": (F32, ["n", 3, 8, 8])}, {"y": F32}, {k: np.asarray(v) for k, v in constants.items()})


def _qdq(rng):
    """Convolutions between quantise and dequantise, a depthwise one, a residual, LRN, a batch norm."""
    constants = {
        "s": F32(0.05), "z": np.int8(3), "w": rng.integers(-128, 128, (4, 4, 1, 1)).astype(np.int8), "dw": rng.integers(-128, 128, (4, 1, 3, 3)).astype(np.int8),
        "ws": F32(0.01), "wz": np.int8(0), "one": np.ones(4, F32), "zero": np.zeros(4, F32),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"), node("DequantizeLinear", "w ws wz", "wd"),
        node("DequantizeLinear", "dw ws wz", "dwd"), node("Conv", "d wd", "c"), node("Relu", "c", "r"), node("QuantizeLinear", "r s z", "rq"),
        node("DequantizeLinear", "rq s z", "rd"), node("Conv", "rd dwd", "dc", group=4, pads=[1, 1, 1, 1]), node("Add", "dc d", "a"),
        node("LRN", "a", "l", size=3), node("BatchNormalization", "l one zero zero one", "bn"), node("AveragePool", "bn", "p", kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        node("Clip", "p", "cl"), node("Pad", "cl pads", "pd"), node("Sigmoid", "pd", "y"),
    ]  # fmt: skip
    constants["pads"] = np.int64([0, 0, 1, 1, 0, 0, 0, 0])
    return model(nodes, {"x": (F32, [1, 4, 6, 6])}, {"y": F32}, {k: np.asarray(v) for k, v in constants.items()})


def _control(rng):
    """A Loop in a branch of an If, and a Scan."""

    def values(**types):
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in types.items()]

    body = helper.make_graph(
        [node("Add", "s one", "s2"), node("Mul", "s2 s2", "k"), node("Less", "i five", "c2")], "body",
        values(i=(7, []), c=(9, []), s=(1, [2])), values(c2=(9, []), s2=(1, [2]), k=(1, [2])),
    )  # fmt: skip
    then = helper.make_graph(
        [helper.make_node("Loop", ["m", "", "x"], ["p", "many"], body=body), node("ReduceSum", "many zero", "t", keepdims=0)], "then", [], values(t=(1, [2]))
    )  # fmt: skip
    other = helper.make_graph([node("Neg", "x", "u")], "other", [], values(u=(1, [2])))
    step = helper.make_graph([node("Add", "h v", "h2"), node("Exp", "h2", "o")], "step", values(h=(1, []), v=(1, [])), values(h2=(1, []), o=(1, [])))  # fmt: skip
    nodes = [
        helper.make_node("If", ["c"], ["r"], then_branch=then, else_branch=other),
        helper.make_node("Scan", ["start", "r"], ["last", "y"], body=step, num_scan_inputs=1),
    ]
    constants = {"one": np.ones(2, F32), "five": np.int64(5), "zero": np.int64([0]), "start": F32(0)}
    made = {"x": (F32, [2]), "c": (np.bool_, []), "m": (np.int64, [])}
    return model(nodes, made, {"y": F32, "last": F32}, {k: np.asarray(v) for k, v in constants.items()})


def _sequences(rng):
    nodes = [
        node("SequenceConstruct", "x x", "s"), node("Neg", "x", "n"), node("SequenceInsert", "s n one", "s2"), node("SequenceAt", "s2 one", "a"),
        node("Neg", "a", "b"), node("ConcatFromSequence", "s2", "j", axis=0), node("Split", "j", "k l", num_outputs=2, axis=0),
        node("TopK", "k two", "v i", axis=0), node("Unsqueeze", "v one", "u"), node("Tile", "u times", "t"), node("SequenceLength", "s2", "len"),
    ]  # fmt: skip
    constants = {"one": np.asarray(1), "two": np.int64([2]), "times": np.int64([1, 2])}
    return model(nodes, {"x": (F32, ["n"])}, {"b": F32, "t": F32, "i": np.int64, "len": np.int64, "l": F32}, constants)


def _functions(rng):
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    twice = helper.make_function("own", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], opset)
    four = helper.make_function(
        "own",
        "Four",
        ["a"],
        ["b"],
        [node("Twice", "a", "m", domain="own"), node("Twice", "m", "b", domain="own")],
        opset,
    )
    nodes = [
        node("Four", "x", "f", domain="own"),
        node("Gemm", "f w", "g", transB=1),
        node("LeakyRelu", "g", "y", alpha=0.1),
    ]
    return model(
        nodes,
        {"x": (F32, ["n", 3])},
        {"y": F32},
        {"w": rng.standard_normal((4, 3)).astype(F32)},
        functions=[twice, four],
    )


def _shapes(rng):
    """Sizes that come from values: what a mutation makes of them must be refused before it is allocated."""
    nodes = [
        node("Shape", "x", "s"), node("Concat", "s two", "t", axis=0), node("ConstantOfShape", "t", "z"), node("Expand", "x s", "e"),
        node("Range", "zero three one", "r"), node("OneHot", "r depth values", "o"), node("Resize", "img - scales", "im"),
        node("Slice", "x start stop", "sl"), node("Where", "cond x e", "wh"), node("Cast", "wh", "ca", to=TensorProto.INT32),
        node("CumSum", "ca axis", "cs"), node("GatherElements", "cs idx", "y"), node("HannWindow", "n", "hw"), node("EyeLike", "x", "eye"),
        node("ReduceMax", "z two0", "rm", keepdims=0),
    ]  # fmt: skip
    constants = {
        "two": np.int64([2]), "zero": np.asarray(0), "three": np.asarray(3), "one": np.asarray(1), "depth": np.asarray(4),
        "values": F32([0, 1]), "scales": F32([1, 1, 2, 2]), "start": np.int64([0]), "stop": np.int64([1]), "cond": np.asarray(True),
        "axis": np.asarray(0), "idx": np.zeros((2, 2), np.int64), "n": np.asarray(5), "two0": np.int64([0]),
        "img": np.ones((1, 1, 2, 2), F32),
    }  # fmt: skip
    return model(
        nodes,
        {"x": (F32, [2, 3])},
        {"y": np.int32, "o": F32, "im": F32, "sl": F32, "hw": F32, "eye": F32, "rm": F32},
        constants,
    )
