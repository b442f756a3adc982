"""Exact search among int8 vectors: `Index`."""

from pyint8dot.search.index import Index

__all__ = ["Index"]
