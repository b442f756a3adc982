"""Float nets with seeded weights, one a family, small enough for a test; `size` scales channels and pictures up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F32 = np.float32


class Net:
    """A model in the making: every call adds a node and returns the name of its result."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = F32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def __call__(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        made = [f"{op.lower()}{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=made[0], **attrs))
        return made[0] if outputs == 1 else made

    def conv(self, x: str, c: int, n: int, k: int = 3, stride: int = 1, group: int = 1, pad: int | None = None) -> str:
        fan = c // group * k * k
        w = self.constant(self.rng.standard_normal((n, c // group, k, k)) * np.sqrt(2 / fan))
        b = self.constant(self.rng.standard_normal(n) * 0.1)
        pad = k // 2 if pad is None else pad
        return self("Conv", x, w, b, kernel_shape=[k, k], strides=[stride] * 2, pads=[pad] * 4, group=group)

    def dense(self, x: str, k: int, n: int) -> str:
        product = self("MatMul", x, self.constant(self.rng.standard_normal((k, n)) / np.sqrt(k)))
        return self("Add", product, self.constant(self.rng.standard_normal(n) * 0.1))

    def model(self, inputs: dict[str, tuple[Any, list[Any]]], outputs: list[str], opset: int = 17) -> onnx.ModelProto:
        described = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
            for name, (kind, shape) in inputs.items()
        ]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", described, results, self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)


@dataclass(frozen=True)
class Family:
    """A net and what it is fed."""

    name: str
    build: Callable[[int], onnx.ModelProto]
    feed: Callable[[int, int], dict[str, np.ndarray]]

    def feeds(self, size: int, count: int) -> Iterator[dict[str, np.ndarray]]:
        return (self.feed(size, seed) for seed in range(count))


def _picture(size: int, seed: int) -> dict[str, np.ndarray]:
    """Smooth patches, as pictures have them, of the range of normalised ones."""
    rng = np.random.default_rng([seed, 7])
    coarse = rng.standard_normal((1, 3, 4 * size, 4 * size)).astype(F32)
    return {"x": coarse.repeat(8, 2).repeat(8, 3) + 0.1 * rng.standard_normal((1, 3, 32 * size, 32 * size)).astype(F32)}


def resnet(size: int) -> onnx.ModelProto:
    """Residual blocks: convolutions with ReLU, additions, and a classifier as PyTorch exports it."""
    net, c = Net(1), 8 * size
    x = net("Relu", net.conv("x", 3, c, 7, 2))
    x = net("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stride in (1, 2, 2):
        n = c * stride
        y = net("Relu", net.conv(x, c, n, 3, stride))
        y = net.conv(y, n, n)
        x = net("Relu", net("Add", y, x if stride == 1 else net.conv(x, c, n, 1, stride)))
        c = n
    x = net("Flatten", net("GlobalAveragePool", x))
    w = net.constant(net.rng.standard_normal((10, c)) / np.sqrt(c))
    y = net("Gemm", x, w, net.constant(net.rng.standard_normal(10) * 0.1), transB=1)
    return net.model({"x": (F32, ["batch", 3, 32 * size, 32 * size])}, [y])


def mobilenet(size: int) -> onnx.ModelProto:
    """Depthwise convolutions, hard swish, and squeeze-and-excite."""
    net, c = Net(2), 8 * size
    x = net("HardSwish", net.conv("x", 3, c, 3, 2))
    for stride in (1, 2):
        wide = 2 * c
        y = net("HardSwish", net.conv(x, c, wide, 1))
        y = net("HardSwish", net.conv(y, wide, wide, 3, stride, group=wide))
        s = net("Relu", net.conv(net("GlobalAveragePool", y), wide, c, 1))
        s = net("HardSigmoid", net.conv(s, c, wide, 1), alpha=1 / 6, beta=0.5)
        y = net.conv(net("Mul", y, s), wide, c, 1)
        x = net("Add", x, y) if stride == 1 else y
    x = net("ReduceMean", net("Clip", x, net.constant(0), net.constant(6)), axes=[2, 3], keepdims=0)
    return net.model({"x": (F32, ["batch", 3, 32 * size, 32 * size])}, [net.dense(x, c, 10)])


def detector(size: int) -> onnx.ModelProto:
    """A pyramid: SiLU, pooling and concatenation, Resize and ConvTranspose on the way up, and a head of boxes."""
    net, c = Net(3), 8 * size

    def silu(x: str) -> str:
        return net("Mul", x, net("Sigmoid", x))

    fine = silu(net.conv("x", 3, c, 3, 2))
    half, other = net("Split", fine, axis=1, outputs=2)
    fine = net("Concat", half, silu(net.conv(other, c // 2, c // 2)), axis=1)
    deep = silu(net.conv(fine, c, 2 * c, 3, 2))
    pools = [deep]
    for _ in range(2):
        pools.append(net("MaxPool", pools[-1], kernel_shape=[5, 5], pads=[2] * 4, strides=[1, 1]))
    deep = silu(net.conv(net("Concat", *pools, axis=1), 6 * c, 2 * c, 1))
    up = net("Resize", deep, "", net.constant([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor")  # fmt: skip
    w = net.constant(net.rng.standard_normal((2 * c, c, 2, 2)) / np.sqrt(2 * c))
    across = net("ConvTranspose", deep, w, net.constant(np.zeros(c)), kernel_shape=[2, 2], strides=[2, 2])
    smooth = net("Resize", deep, "", net.constant([1, 1, 2, 2]), mode="linear")
    neck = net("Concat", up, across, smooth, fine, axis=1)
    neck = net("LeakyRelu", net.conv(neck, 6 * c, c), alpha=0.1)
    head = net("Reshape", net.conv(neck, c, 6, 1), net.ints(0, 6, -1))
    boxes = net("Slice", head, net.ints(0), net.ints(4), net.ints(1))
    scores = net("Sigmoid", net("Slice", head, net.ints(4), net.ints(6), net.ints(1)))
    y = net("Transpose", net("Concat", boxes, scores, axis=1), perm=[0, 2, 1])
    return net.model({"x": (F32, ["batch", 3, 32 * size, 32 * size])}, [y])


def _tokens(size: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, 8])
    length = 6 + 4 * size
    return {
        "ids": rng.integers(0, 50, (2, length)),
        "mask": (np.arange(length) < [[length], [length - 3]]).astype(np.int64),
    }


def transformer(size: int, layers: int = 2) -> onnx.ModelProto:
    """An encoder as PyTorch exports it: normalisation, attention and GELU in single operators."""
    net, d, heads = Net(4), 32 * size, 4

    def norm(x: str) -> str:
        centred = net("Sub", x, net("ReduceMean", x, axes=[-1]))
        spread = net("ReduceMean", net("Pow", centred, net.constant(2)), axes=[-1])
        y = net("Div", centred, net("Sqrt", net("Add", spread, net.constant(1e-5))))
        y = net("Mul", y, net.constant(1 + 0.1 * net.rng.standard_normal(d)))
        return net("Add", y, net.constant(0.1 * net.rng.standard_normal(d)))

    table = net.constant(net.rng.standard_normal((50, d)))
    places = net.constant(net.rng.standard_normal((1, 64, d)) * 0.1)
    length = net("Gather", net("Shape", "ids"), net.ints(1))
    x = norm(net("Add", net("Gather", table, "ids"), net("Slice", places, net.ints(0), length, net.ints(1))))
    mask = net("Cast", net("Unsqueeze", "mask", net.ints(1, 2)), to=TensorProto.FLOAT)
    mask = net("Mul", net("Sub", net.constant(1), mask), net.constant(-10000))
    for _ in range(layers):
        q, k, v = (
            net("Transpose", net("Reshape", net.dense(x, d, d), net.ints(0, 0, heads, d // heads)), perm=[0, 2, 1, 3])
            for _ in range(3)
        )
        scores = net("MatMul", q, net("Transpose", k, perm=[0, 1, 3, 2]))
        scores = net("Add", net("Div", scores, net.constant(np.sqrt(d // heads))), mask)
        y = net("Transpose", net("MatMul", net("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        x = norm(net("Add", x, net.dense(net("Reshape", y, net.ints(0, 0, d)), d, d)))
        y = net.dense(x, d, 4 * d)
        inner = net("Add", net("Erf", net("Div", y, net.constant(np.sqrt(2)))), net.constant(1))
        y = net("Mul", net("Mul", y, inner), net.constant(0.5))
        x = norm(net("Add", x, net.dense(y, 4 * d, d)))
    return net.model({name: (np.int64, ["batch", "tokens"]) for name in ("ids", "mask")}, [x])


def _sound(size: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, 9])
    x = np.cumsum(rng.standard_normal((1, 16, 24 * size)), axis=2).astype(F32) * F32(0.3)
    return {"x": x, "rate": np.array(16000 if seed % 2 else 8000)}


def speech(size: int) -> onnx.ModelProto:
    """Convolutions along time, an LSTM of both directions, and a classifier of each step.

    As voice detectors have it, an If comes first: what was sampled at the higher rate is thinned out.
    """
    net, h = Net(5), 16 * size
    branches = {
        "then_branch": helper.make_node("AveragePool", ["x"], ["thin"], "thinned", kernel_shape=[2], strides=[2]),
        "else_branch": helper.make_node("Identity", ["x"], ["whole"], "kept"),
    }
    graphs = {
        name: helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)]
        )
        for name, node in branches.items()
    }
    x = net("If", net("Greater", "rate", net.constant(8000, np.int64)), **graphs)
    w = net.constant(net.rng.standard_normal((h, 16, 3)) / 7)
    x = net("Relu", net("Conv", x, w, net.constant(np.zeros(h)), kernel_shape=[3], pads=[1, 1], strides=[2]))
    x = net("Transpose", x, perm=[2, 0, 1])
    w = net.constant(net.rng.standard_normal((2, 4 * h, h)) / np.sqrt(h))
    r = net.constant(net.rng.standard_normal((2, 4 * h, h)) / np.sqrt(h))
    b = net.constant(net.rng.standard_normal((2, 8 * h)) * 0.1)
    y, _ = net("LSTM", x, w, r, b, outputs=2, hidden_size=h, direction="bidirectional")
    y = net("Reshape", net("Transpose", y, perm=[2, 0, 1, 3]), net.ints(0, 0, 2 * h))
    y = net("Softmax", net.dense(y, 2 * h, 12), axis=-1)
    return net.model({"x": (F32, ["batch", 16, "time"]), "rate": (np.int64, [])}, [y])


FAMILIES = [
    Family("resnet", resnet, _picture),
    Family("mobilenet", mobilenet, _picture),
    Family("detector", detector, _picture),
    Family("transformer", transformer, _tokens),
    Family("speech", speech, _sound),
]
