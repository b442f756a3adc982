"""The errors of the ONNX session, each naming the node or the tensor that is at fault."""

from __future__ import annotations

from pyint8dot.errors import Int8DotError


class ModelError(Int8DotError, ValueError):
    """A model that cannot be read, is not valid, or asks for more than the session allows."""


class MissingFileError(ModelError, FileNotFoundError):
    """A model file that does not exist."""


class NodeError(Int8DotError, RuntimeError):
    """A node of a valid model that failed on the inputs it was given."""


class InputError(Int8DotError, ValueError):
    """A feed that does not fit the inputs of the model."""
