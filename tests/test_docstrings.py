"""Docstrings say what the code takes, gives and raises, and their examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import pyint8dot
import pyint8dot.search

ROOT = Path(__file__).resolve().parents[1]

static = pytest.mark.static

SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def sections(thing: object) -> dict[str, str]:
    """The sections of a docstring by title; the text before the first has the title "" ."""
    head, *rest = SECTION.split(inspect.getdoc(thing) or "")
    return {"": head, **dict(zip(rest[::2], rest[1::2], strict=True))}


def described(section: str) -> set[str]:
    """The names that a section of parameters describes."""
    lines = re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", section, re.MULTILINE)
    return {name.strip(" *") for line in lines for name in line.split(",")}


def raises(function: object) -> bool:
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def lacks(function: object, *, short: bool = False) -> list[str]:
    """What the docstring of a function does not say and should.

    A method may have a short one: a sentence that names its parameters and says what it returns.
    """
    found = sections(function)
    signature = inspect.signature(function)
    short = short and "Parameters" not in found
    wanted = [name for name in signature.parameters if name not in ("self", "cls") and not name.startswith("_")]
    told = set(re.findall(r"\w+", found[""])) if short else described(found.get("Parameters", ""))
    missing = [f"parameter {name}" for name in wanted if name not in told]
    if not found[""].strip():
        missing.append("summary")
    if str(signature.return_annotation) != "None" and not short and "Returns" not in found:
        missing.append("Returns")
    if raises(function) and "Raises" not in found:
        missing.append("Raises")
    return missing


def methods(kind: type) -> dict[str, object]:
    """The public methods and properties of a class, those it inherits from this package included."""
    own = [base for base in kind.__mro__ if base.__module__.startswith("pyint8dot")]
    return {name: value for base in reversed(own) for name, value in vars(base).items() if not name.startswith("_")}


PUBLIC = {
    name: getattr(pyint8dot, name) for name in pyint8dot.__all__ if not inspect.ismodule(getattr(pyint8dot, name))
}
PUBLIC |= {
    f"fuse.{name}": value
    for name, value in vars(pyint8dot.fuse).items()
    if name == "apply" or (name in pyint8dot.fuse.__all__ and inspect.isclass(value))
}
PUBLIC |= {f"search.{name}": getattr(pyint8dot.search, name) for name in pyint8dot.search.__all__}
FUNCTIONS = [name for name, value in PUBLIC.items() if inspect.isfunction(value)]
CLASSES = [name for name, value in PUBLIC.items() if inspect.isclass(value)]


@static
def test_there_are_functions_and_classes():
    assert len(FUNCTIONS) + len(CLASSES) == len(PUBLIC)
    assert {"matmul", "linear", "pack", "fuse.apply"} <= set(FUNCTIONS)
    assert {"PackedMatrix", "PackedI8K4", "fuse.Scaler"} <= set(CLASSES)


@static
@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring_of_a_function(name):
    assert lacks(PUBLIC[name]) == []
    assert ">>>" in sections(PUBLIC[name])["Examples"]


@static
@pytest.mark.parametrize("name", CLASSES)
def test_docstring_of_a_class(name):
    kind = PUBLIC[name]
    found = sections(kind)
    assert found[""].strip()
    if not name.startswith("fuse.") and not issubclass(kind, Exception):
        wanted = [parameter for parameter in inspect.signature(kind).parameters if not parameter.startswith("_")]
        told = described(found.get("Parameters", "")) | described(found.get("Attributes", ""))
        assert [parameter for parameter in wanted if parameter not in told] == []
    missing = {}
    for method, value in methods(kind).items():
        function = getattr(value, "__func__", value)
        if isinstance(function, property):
            missing[method] = [] if sections(function)[""].strip() else ["summary"]
        # What a fused operation does is its class's docstring; `run` and `check` are the same for all.
        elif inspect.isfunction(function) and not name.startswith("fuse."):
            missing[method] = lacks(function, short=True)
    assert {method: what for method, what in missing.items() if what} == {}


def sloppy(a: int, b: int) -> int:
    """Add.

    Parameters
    ----------
    a : int
    """
    if b < 0:
        raise ValueError
    return a + b


def terse(a: int, b: int) -> int:
    """Return what follows `a`."""
    return a + b


def test_a_poor_docstring_is_noticed():
    assert lacks(sloppy) == lacks(sloppy, short=True) == ["parameter b", "Returns", "Raises"]
    assert lacks(terse) == ["parameter a", "parameter b", "Returns"]
    assert lacks(terse, short=True) == ["parameter b"]


def runs_examples(source: str) -> bool:
    """Whether a module has an example that is not skipped."""
    lines = [line for line in source.splitlines() if line.strip().startswith(">>> ")]
    return any("doctest: +SKIP" not in line for line in lines)


def modules() -> list[str]:
    """The modules of the package with examples in them."""
    found = [info.name for info in pkgutil.walk_packages(pyint8dot.__path__, "pyint8dot.", onerror=lambda _: None)]
    paths = {name: ROOT.joinpath(*name.split(".")) for name in found}
    files = {name: path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for name, path in paths.items()}
    return [name for name, file in files.items() if runs_examples(file.read_text())]


@pytest.mark.parametrize("name", modules())
def test_examples_of_a_module(name):
    if name.startswith("pyint8dot.onnx"):
        pytest.importorskip("onnx")
    if name.startswith("pyint8dot.models"):
        pytest.importorskip("tokenizers")
    result = doctest.testmod(importlib.import_module(name), extraglobs={"np": np})
    assert result.failed == 0
    assert result.attempted > 0
