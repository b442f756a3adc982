"""Exact search among int8 vectors: `Index`, and `semantic_search` as sentence-transformers has it."""

from pyint8dot.search.files import IndexFileError
from pyint8dot.search.index import Index
from pyint8dot.search.semantic import dequantize_embeddings, semantic_search

__all__ = ["Index", "IndexFileError", "dequantize_embeddings", "semantic_search"]


def __dir__() -> list[str]:
    return __all__
