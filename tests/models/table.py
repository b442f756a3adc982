"""How the session does on nets of every family and form: ``cd tests && python -m models.table`` prints it as Markdown.

It needs onnxruntime, which makes most of the forms too. Differences are relative to the largest number of a result; beside ours stands
that of onnxruntime without its optimisations from onnxruntime with them. With ``--counts``, the instructions of one warm run stand in two
more columns, where this machine can count.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from models import counts
from models.forms import FORMS
from models.nets import FAMILIES, Family
from pyint8dot.engine import settings
from pyint8dot.onnx import InferenceSession
from pyint8dot.onnx.zoo import minilm

# A family is worth a form where it has what the form changes.
PRODUCTS_ONLY = {"4 bits", "8 bits"}


@dataclass
class Result:
    """A net in one form."""

    family: str
    form: str
    int8_share: float
    reference_share: float
    conversions: int
    difference: float
    own_difference: float
    counts: dict[str, dict[str, float]] = field(default_factory=dict)  # by processor and runtime, in millions


def macs(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> int:
    """Count the multiplications of all products of a float model, those of two activations included.

    Depthwise convolutions are left out: they are no products, and have native code of their own.
    """
    every = onnx.ModelProto()
    every.CopyFrom(model)
    del every.graph.output[:]
    names = [name for node in every.graph.node for name in node.output if name]
    every.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    shapes = {t.name: list(t.dims) for t in every.graph.initializer}
    values = {**feed, **dict(zip(names, onnxruntime(every, feed, optimised=False), strict=True))}
    shapes |= {name: list(value.shape) for name, value in values.items()}
    total = 0
    for node in every.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        elif node.op_type == "Conv" and shapes[node.input[1]][1] > 1:
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type == "ConvTranspose":
            total += math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type == "LSTM":
            steps, batch, _ = shapes[node.input[0]]
            total += steps * batch * sum(math.prod(shapes[name]) for name in node.input[1:3])
    return total


def onnxruntime(model: onnx.ModelProto, feed: dict[str, np.ndarray], *, optimised: bool = True) -> list[np.ndarray]:
    """Run a model by onnxruntime, on one thread, with all its optimisations or with none."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    level = "ORT_ENABLE_ALL" if optimised else "ORT_DISABLE_ALL"
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def measure(family: Family, form: str, model: onnx.ModelProto, fed: counts.Fed) -> Result:
    """Run one form of a net, whose float model is `model`, both ways."""
    made, feed = fed
    session = InferenceSession(made.SerializeToString())
    session.run(None, feed)
    session.reset_report()
    with settings.tally() as counted:
        got = session.run(None, feed)
    report = session.report()
    on_reference = report.by_worker().get("onnx reference", (0, 0.0))[1]
    wanted, plain = onnxruntime(made, feed), onnxruntime(made, feed, optimised=False)
    return Result(
        family.name,
        form,
        sum(counted.macs.values()) / macs(model, feed),
        on_reference / report.seconds,
        sum(report.conversions().values()),
        _difference(got, wanted),
        _difference(plain, wanted),
    )


def _difference(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(some, others, strict=True))


def results(families: list[Family], size: int, processors: Sequence[str] = ()) -> Iterator[Result]:
    """Measure every form of some families, and count their runs on some processors."""
    for family in families:
        model = family.build(size)
        has_products = any(n.op_type == "MatMul" for n in model.graph.node)
        forms = [form for form in FORMS if has_products or form not in PRODUCTS_ONLY]
        made = {form: (FORMS[form](model, family, size), family.feed(size, 99)) for form in forms}
        counted = {processor: counts.million(made, processor) for processor in processors}
        for form, fed in made.items():
            result = measure(family, form, model, fed)
            result.counts = {processor: counted[processor][form] for processor in processors}
            yield result


def table(found: Iterator[Result], processors: Sequence[str] = ()) -> Iterator[str]:
    """Format results as Markdown."""
    titles = [
        "MACs on int8 kernels",
        "on the reference",
        "conversions",
        "from onnxruntime",
        "onnxruntime from itself",
        *processors,
    ]
    yield "| net | form | " + " | ".join(titles) + " |"
    yield "|---|---|" + "---:|" * len(titles)
    for r in found:
        shares = f"{100 * r.int8_share:.0f} % | {100 * r.reference_share:.1f} %"
        counted = "".join(f" {_beside(r.counts[name])} |" for name in processors)
        yield (
            f"| {r.family} | {r.form} | {shares} | {r.conversions} | {r.difference:.1g} | {r.own_difference:.1g} |{counted}"
        )


def _beside(million: dict[str, float]) -> str:
    ours, theirs = million["ours"], million["onnxruntime"]
    return f"{ours:.1f} / {theirs:.1f} = {ours / theirs:.2f}"


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2, help="how much larger than in the tests the nets are")
    parser.add_argument("--small", action="store_true", help="leave MiniLM out, which takes minutes to quantise")
    parser.add_argument("--counts", action="store_true", help="count instructions too, which takes minutes a family")
    options: Any = parser.parse_args(arguments)
    families = list(FAMILIES)
    if not options.small:
        families.append(Family("MiniLM", lambda _: minilm.float_model(), lambda _, seed: minilm.token_feed(seed)))
    processors = tuple(counts.CPUS) if options.counts else ()
    for line in table(results(families, options.size, processors), processors):
        print(line, flush=True)


if __name__ == "__main__":
    main()
