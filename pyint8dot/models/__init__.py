"""Models whose linear layers run on the int8 kernels. Needs the extra ``pyint8dot[models]``."""

from pyint8dot.models.embedder import Embedder
from pyint8dot.models.minilm import MiniLM

__all__ = ["Embedder", "MiniLM"]


def __dir__() -> list[str]:
    return __all__
